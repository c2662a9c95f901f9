/** Tests of the settlement of leases, and of workers whose API is not available or refuses requests. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { DroverError, RetryLaterError } from "drover-client";
import { drover, message, open, work, setUp } from "./fixture.js";
import { Drover, type ProxiedRequest, Proxy, freePort, record, until, within } from "./harness.js";

setUp();

describe("settlements", () => {
    const isSettle = ({ path }: ProxiedRequest): boolean => path.endsWith("/settle");

    test("jobs that end while a settlement is being sent are settled by one later request", async () => {
        const queue = open("batches");
        const proxy = await Proxy.start(drover.url);
        const total = 500;
        await queue.addBulk(Array.from({ length: total }, (_, i) => ({ name: "n", data: i })));
        const worker = work("batches", () => "x", { url: proxy.url, concurrency: 100 });
        await until("all jobs are completed", async () => (await queue.getJobCounts()).completed === total);
        await worker.close();
        const settled = proxy.requests.filter(isSettle).map(({ body }) => (JSON.parse(body) as { settlements: unknown[] }).settlements.length);
        assert.equal(settled.reduce((a, b) => a + b, 0), total);
        assert.ok(settled.length <= 30, `${settled.length} requests: ${settled.join()}`);
        proxy.stop();
    });

    test("a settlement whose answer is lost is repeated, and reported once", async () => {
        const queue = open("repeated");
        const proxy = await Proxy.start(drover.url);
        let lost = 0;
        proxy.decide = (request) => (isSettle(request) && lost++ < 2 ? "lose" : "pass");
        const events = record(work("repeated", () => "x", { url: proxy.url }));
        const job = await queue.add("n", 1);
        await until("the completion is reported", () => events.some(([event]) => event === "completed"));
        assert.deepEqual(events.map(([event]) => event), ["active", "error", "error", "completed"]);
        const stored = await message("repeated", job.id);
        assert.deepEqual([stored.state, stored.attempts_made, stored.deliveries], ["completed", 1, 1]);
        proxy.stop();
    });

    test("a settlement that the API refuses fails its job, and blocks no other settlement", async () => {
        const queue = open("poison");
        await queue.addBulk(Array.from({ length: 60 }, (_, i) => ({ name: "n", data: i, opts: { jobId: `j${i}`, attempts: 3 } })));
        const worker = work(
            "poison",
            (job) => {
                if (job.data === 7 || job.data === 33) {
                    throw new RetryLaterError(1e15);
                }
                return job.data as number;
            },
            { concurrency: 60 },
        );
        const events = record(worker);
        await until("all jobs have finished", async () => {
            const { completed, failed } = await queue.getJobCounts();
            return completed + failed === 60;
        });
        await worker.close();
        const messages = await drover.messages("poison");
        for (const [id, { state, result, error, attempts_made: attempts }] of messages) {
            if (id === "j7" || id === "j33") {
                assert.deepEqual([state, error.code, attempts], ["failed", "invalid_settlement", 1]);
                assert.match(error.message, /retry_after/);
            } else {
                assert.deepEqual([state, `j${result}`], ["completed", id]);
            }
        }
        assert.equal(events.filter(([event]) => event === "completed").length, 58);
        assert.equal(events.filter(([event]) => event === "failed").length, 2);
        assert.equal(events.filter(([event]) => event === "error").length, 2);
    });

    for (const [name, status] of [["refuses without naming it", 422], ["fails for it", 500], ["finds the body too large", 413]] as const) {
        test(`a settlement for which the server ${name} (${status}) blocks no other settlement`, async () => {
            const queueName = `poison-${status}`;
            const queue = open(queueName);
            const proxy = await Proxy.start(drover.url);
            const problem = { status, body: { status, code: "internal", detail: "…" } };
            proxy.decide = (request) => (isSettle(request) && request.body.includes("poison") ? problem : "pass");
            await queue.addBulk(Array.from({ length: 20 }, (_, i) => ({ name: "n", data: i })));
            const worker = work(queueName, (job) => (job.data === 3 ? "poison" : "fine"), { url: proxy.url, concurrency: 20 });
            const events = record(worker);
            await until("all other jobs are completed", async () => (await queue.getJobCounts()).completed === 19);
            await until("the job has failed", async () => (await queue.getJobCounts()).failed === 1);
            await until("the failure is reported", () => events.some(([event]) => event === "failed"));
            await worker.close();
            proxy.stop();
        });
    }

    test("while settlements fail, a worker leases a bounded number of jobs", async () => {
        const queue = open("bounded");
        const proxy = await Proxy.start(drover.url);
        let isAway = true;
        proxy.decide = (request) => (isAway && isSettle(request) ? "refuse" : "pass");
        await queue.addBulk(Array.from({ length: 3_000 }, (_, i) => ({ name: "n", data: i })));
        let started = 0;
        const worker = work("bounded", () => void (started += 1), { url: proxy.url, concurrency: 40 });
        await until("the bound is reached", () => started >= 1_040);
        const before = proxy.requests.length;
        await until("two more settlements failed", () => proxy.requests.length >= before + 2);
        assert.equal(started, 1_040);
        isAway = false;
        await until("all jobs are completed", async () => (await queue.getJobCounts()).completed === 3_000);
        assert.equal(started, 3_000);
        await worker.close();
        proxy.stop();
    });
});

describe("an API that is away or refuses", () => {
    test("a worker that starts before its API works when the API has started", async () => {
        const port = await freePort();
        const url = `http://127.0.0.1:${port}`;
        const worker = work("early", (job) => job.data as number, { url });
        const events = record(worker);
        await until("three requests failed", () => events.length >= 3);
        const adding = open("early", { url }).add("n", 5);
        await Drover.start({}, port);
        assert.equal(await (await adding).waitUntilFinished(), 5);
        await worker.close();
        assert.deepEqual(events.map(([event]) => event).filter((event) => event !== "error"), ["active", "completed"]);
    });

    test("a wrong API key is reported, and its request is not repeated without a pause", async () => {
        const proxy = await Proxy.start(drover.url);
        proxy.decide = ({ headers }) =>
            headers.authorization === "Bearer drv_wrong" ? { status: 401, body: { status: 401, code: "unauthorized", detail: "send a valid key" } } : "pass";
        const worker = work("wrong-key", () => 1, { url: proxy.url, key: "drv_wrong" });
        const errors: Error[] = [];
        worker.on("error", (error) => errors.push(error));
        await until("the error is reported", () => errors.length > 0);
        await sleep(500);
        assert.equal(proxy.requests.length, 1);
        assert.equal((errors[0] as DroverError).code, "unauthorized");
        assert.doesNotMatch(String(errors[0]?.stack), /drv_wrong/);
        await within("the worker is closed", worker.close(), 5_000);
        proxy.stop();
    });

    test("an error event without a listener, and a listener that throws, do not disturb the worker", async () => {
        const proxy = await Proxy.start(drover.url);
        let refused = 0;
        proxy.decide = () => (refused++ < 2 ? "refuse" : "pass");
        const worker = work("silent", (job) => job.data as number, { url: proxy.url });
        worker.on("active", () => {
            throw new Error("a listener's mistake");
        });
        const job = await open("silent").add("n", 5);
        assert.equal(await job.waitUntilFinished(), 5);
        assert.equal(refused > 2, true);
        const errors: Error[] = [];
        worker.on("error", (error) => errors.push(error));
        await (await open("silent").add("n", 6)).waitUntilFinished();
        assert.deepEqual(errors.map(({ message: text }) => text), ["a listener's mistake"]);
        await worker.close();
        proxy.stop();
    });

    test("a listener that rejects is an error event, and a listener of errors that rejects does not end the process", async () => {
        const worker = work("rejecting", () => "done");
        worker.on("completed", async () => {
            throw new Error("rejected by a listener");
        });
        const errors: string[] = [];
        worker.on("error", async ({ message: text }) => {
            errors.push(text);
            throw new Error("rejected again");
        });
        const warned = new Promise<Error>((resolve) => process.once("warning", resolve));
        assert.equal(await (await open("rejecting").add("n", 1)).waitUntilFinished(), "done");
        assert.match((await within("the warning", warned)).message, /rejected again/);
        assert.deepEqual(errors, ["rejected by a listener"]);
        await worker.close();
    });

    test("an API that permits only short waits is used with short waits", async () => {
        const own = await Drover.start({ DROVER__API__MAX_WAIT: "1500ms" });
        const worker = work("short", (job) => job.data as number, { url: own.url });
        const events = record(worker);
        const queue = open("short", { url: own.url });
        const job = await queue.add("n", 5);
        await until("the job is completed", () => events.some(([event]) => event === "completed"));
        assert.deepEqual(events.filter(([event]) => event === "error"), []);
        assert.equal(await job.waitUntilFinished(), 5);
        await worker.close();
        await own.stop();
    });
});
