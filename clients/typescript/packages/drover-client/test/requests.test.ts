/** Tests of requests that fail, and of requests with many jobs. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { ConnectionError, DroverError, PartialBulkError, Queue, WaitTimeoutError } from "drover-client";
import { drover, open, settleOne, setUp } from "./fixture.js";
import { type Deed, Drover, PATIENCE, Proxy, until, within } from "./harness.js";

setUp();

describe("requests that fail", () => {
    test("a job whose add request loses its answer is stored once and returned", async () => {
        const proxy = await Proxy.start(drover.url);
        let lost = 0;
        proxy.decide = () => (lost++ < 2 ? "lose" : "pass");
        const queue = open("lost-answers", { url: proxy.url });
        const job = await queue.add("x", 1);
        const [first, second, third] = proxy.requests;
        assert.equal(proxy.requests.length, 3);
        assert.ok(first?.headers["idempotency-key"]);
        assert.equal(first.headers["idempotency-key"], second?.headers["idempotency-key"]);
        assert.equal(first.body, third?.body);
        assert.deepEqual([...(await drover.messages("lost-answers")).keys()], [job.id]);
        proxy.stop();
    });

    test("each job that is added while the API is killed is stored once", async () => {
        const own = await Drover.start();
        const queue = new Queue<number>("kills", { url: own.url });
        const total = 600;
        let added = 0;
        const adding = Promise.all(
            Array.from({ length: 20 }, async (_, lane) => {
                for (let i = lane; i < total; i += 20) {
                    await queue.add("x", i);
                    added += 1;
                }
            }),
        );
        for (const share of [0.2, 0.5, 0.8]) {
            await until("more jobs are added", () => added >= total * share);
            await own.api.end("SIGKILL");
            await own.startApi();
        }
        await within("all jobs are added", adding);
        const stored = [...(await own.messages("kills")).values()].map(({ data }) => data as number);
        assert.deepEqual(stored.sort((a, b) => a - b), Array.from({ length: total }, (_, i) => i));
        await queue.close();
        await own.stop();
    });

    test("after `timeout` without an API, an add fails as a ConnectionError that names the address and not the key", async () => {
        const proxy = await Proxy.start(drover.url);
        proxy.stop();
        const queue = open("away", { url: proxy.url, timeout: 500, key: "drv_secret" });
        const error = await queue.add("x", 1).catch((caught: unknown) => caught);
        assert.ok(error instanceof ConnectionError, String(error));
        assert.equal(error.code, "ECONNREFUSED");
        assert.match(error.message, /^POST http:\/\/127\.0\.0\.1:[0-9]+\/v1\/queues\/away\/messages: connect ECONNREFUSED/);
        assert.doesNotMatch(JSON.stringify(error) + String(error.stack) + String(error.cause), /secret/);
    });

    test("a request answered with 503 is repeated after Retry-After, and requests with other errors are not repeated", async () => {
        const proxy = await Proxy.start(drover.url);
        const problem = (status: number, code: string) => ({ status, body: { status, code, detail: "…" }, headers: { "retry-after": "1" } });
        const answers = [problem(503, "unavailable"), problem(502, "http_502"), problem(429, "rate_limited")];
        proxy.decide = () => answers.shift() ?? "pass";
        const queue = open("retry-after", { url: proxy.url });
        const begin = performance.now();
        await queue.add("x", 1);
        assert.ok(performance.now() - begin >= 3_000);
        assert.equal(proxy.requests.length, 4);
        for (const [status, code] of [[429, "queue_full"], [507, "out_of_memory"], [500, "internal"]] as const) {
            answers.push(problem(status, code));
            await assert.rejects(queue.add("x", 1), (error: DroverError) => error.code === code);
        }
        assert.equal(proxy.requests.length, 7);
        proxy.stop();
    });

    test("an answer that is not from Drover's API causes an error that says so", async () => {
        const proxy = await Proxy.start(drover.url);
        proxy.decide = () => ({ status: 404, body: "<html>" });
        await assert.rejects(open("html", { url: proxy.url }).getJobCounts(), /http_404 \(404\): <html>/);
        proxy.decide = () => ({ status: 200, body: "a page" });
        await assert.rejects(open("html", { url: proxy.url }).getJobCounts(), /the answer is not JSON: check that `url`/);
        proxy.stop();
    });

    test("a repeated change whose first answer was lost succeeds", async () => {
        const proxy = await Proxy.start(drover.url);
        const queue = open("lost-changes", { url: proxy.url });
        const job = await queue.add("x", 1, { attempts: 1 });
        await settleOne("lost-changes", { action: "fail" });
        let isLost = false;
        proxy.decide = () => (isLost ? "pass" : ((isLost = true), "lose"));
        await job.retry();
        assert.equal(await job.getState(), "waiting");
        isLost = false;
        await job.remove();
        assert.equal(await queue.getJob(job.id), undefined);
        await assert.rejects(job.remove(), (error: DroverError) => error.code === "message_not_found");
        proxy.stop();
    });

    test("waitUntilFinished continues when a wait that has lasted longer than `timeout` is interrupted", async () => {
        const proxy = await Proxy.start(drover.url);
        const queue = open("broken-wait", { url: proxy.url, timeout: 1_000 });
        const job = await queue.add("x", 1);
        proxy.decide = async (): Promise<Deed> => {
            await sleep(1_500);
            proxy.decide = () => "pass";
            return "refuse";
        };
        const finished = job.waitUntilFinished();
        await until("the wait is broken, and goes on", () => proxy.requests.length === 3);
        await settleOne("broken-wait", { action: "complete", result: "done" });
        assert.equal(await within("the job has finished", finished), "done");
        proxy.stop();
    });

    test("waitUntilFinished ends at its time limit and at `timeout` while the API is not available", async () => {
        const proxy = await Proxy.start(drover.url);
        const job = await open("away-wait", { url: proxy.url, timeout: PATIENCE }).add("x", 1);
        const impatient = await open("away-wait", { url: proxy.url, timeout: 700 }).getJob(job.id);
        proxy.stop();
        const begin = performance.now();
        const error = await job.waitUntilFinished(500).catch((caught: unknown) => caught);
        const took = performance.now() - begin;
        assert.ok(error instanceof WaitTimeoutError && error.cause instanceof ConnectionError, String(error));
        assert.ok(took >= 490 && took < PATIENCE / 2, String(took));
        await assert.rejects(within("the API is given up", impatient!.waitUntilFinished()), ConnectionError);
    });

    test("wrong names and addresses are refused at once", () => {
        assert.throws(() => open("no/slash"), /is not the name of a queue/);
        assert.throws(() => open("x", { url: "localhost:8080" }), /not an HTTP address/);
        assert.throws(() => open("x", { url: "http://u:secret@localhost" }), (error: Error) => !error.message.includes("secret"));
        assert.throws(() => open("x", { key: "line\nbreak" }), (error: Error) => !error.message.includes("break"));
    });

    test("an id that would name another path is refused", async () => {
        const queue = open("paths");
        await assert.rejects(queue.getJob(".."), /id: ".." is not possible/);
        assert.equal(await queue.getJob("a?b#c%2F"), undefined);
        const job = await queue.add("x", 1, { jobId: "a?b#c% d" });
        assert.equal((await queue.getJob("a?b#c% d"))?.id, job.id);
    });
});

describe("addBulk", () => {
    test("addBulk stores jobs in order, in requests of up to 1,000 jobs and 1 MB", async () => {
        const proxy = await Proxy.start(drover.url);
        const queue = open("bulk", { url: proxy.url });
        const jobs = await queue.addBulk(Array.from({ length: 2_500 }, (_, i) => ({ name: "n", data: i })));
        assert.equal(proxy.requests.length, 3);
        assert.deepEqual(jobs.map(({ data }) => data), Array.from({ length: 2_500 }, (_, i) => i));
        const stored = await drover.messages("bulk");
        assert.ok(jobs.every(({ id, data }) => stored.get(id)?.data === data));
        const large = await queue.addBulk(Array.from({ length: 5 }, () => ({ name: "n", data: "x".repeat(400_000) })));
        assert.equal(large.length, 5);
        assert.equal(proxy.requests.length, 6);
        proxy.stop();
    });

    test("a lost answer makes addBulk store no job twice", async () => {
        const proxy = await Proxy.start(drover.url);
        let requests = 0;
        proxy.decide = () => (++requests === 2 ? "lose" : "pass");
        const queue = open("bulk-lost", { url: proxy.url });
        const jobs = await queue.addBulk(Array.from({ length: 1_500 }, (_, i) => ({ name: "n", data: i })));
        assert.equal(requests, 3);
        assert.deepEqual(new Set(jobs.map(({ id }) => id)), new Set((await drover.messages("bulk-lost")).keys()));
        proxy.stop();
    });

    test("an error in a later request of addBulk says which jobs are stored", async () => {
        const queue = open("bulk-part");
        const jobs = Array.from({ length: 1_200 }, (_, i) => ({ name: "n", data: i, opts: i === 1_100 ? { priority: 1e9 } : {} }));
        const error = await queue.addBulk(jobs).catch((caught: unknown) => caught);
        assert.ok(error instanceof PartialBulkError);
        assert.equal(error.added.length, 1_000);
        assert.equal((error.cause as DroverError).errors[0]?.pointer, "/messages/100/priority");
        assert.equal((await queue.getJobCounts()).waiting, 1_000);
    });

    test("a smaller body limit of the API is respected", async () => {
        const own = await Drover.start({ DROVER__API__BODY_LIMIT: "16384" });
        const queue = new Queue("small", { url: own.url });
        const jobs = await queue.addBulk(Array.from({ length: 50 }, (_, i) => ({ name: "n", data: [i, "x".repeat(1_000)] })));
        assert.deepEqual(jobs.map(({ data }) => (data as [number])[0]), Array.from({ length: 50 }, (_, i) => i));
        assert.equal((await own.messages("small")).size, 50);
        await queue.close();
        await own.stop();
    });
});
