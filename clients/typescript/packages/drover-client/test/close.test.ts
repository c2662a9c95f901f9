/** Tests of workers that are paused, resumed and closed. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { UnrecoverableError, WorkerClosedError } from "drover-client";
import { drover, gate, message, open, work, setUp } from "./fixture.js";
import { type Deed, Drover, Proxy, record, until, within } from "./harness.js";

setUp();

describe("pause and close", () => {
    test("a paused worker leases nothing, finishes its running handlers, and leases again after resume", async () => {
        const queue = open("paused");
        const kept = gate();
        const worker = work("paused", kept.handler, { concurrency: 2 });
        await queue.add("n", 1);
        await until("the handler runs", () => kept.started() === 1);
        await worker.pause(true);
        const pausing = worker.pause();
        const second = await queue.add("n", 2);
        kept.open("done");
        await within("the worker is paused", pausing);
        assert.equal(worker.isPaused(), true);
        await sleep(200);
        assert.equal(await second.getState(), "waiting");
        worker.resume();
        assert.equal(await second.waitUntilFinished(), "done");
        assert.equal((await message("paused", second.id)).deliveries, 1);
    });

    test("close waits for running handlers, confirms their results, and may be called again", async () => {
        const queue = open("close");
        const kept = gate();
        const worker = work("close", kept.handler, { concurrency: 3 });
        const jobs = await queue.addBulk([1, 2, 3, 4].map((data) => ({ name: "n", data })));
        await until("three handlers run", () => kept.started() === 3);
        const closing = worker.close();
        assert.equal(worker.close(), closing);
        assert.equal(worker.isRunning(), false);
        await sleep(50);
        kept.open("done");
        await within("the worker is closed", closing, 10_000);
        assert.deepEqual(kept.reasons, []);
        assert.deepEqual(await Promise.all(jobs.map((job) => job.getState())), ["completed", "completed", "completed", "waiting"]);
        await assert.rejects(worker.run(), /closed/);
    });

    test("after closeTimeout, close aborts handlers and releases their jobs at once, with no attempt counted", async () => {
        const queue = open("close-timeout");
        const reasons: unknown[] = [];
        const worker = work(
            "close-timeout",
            (job, signal) =>
                new Promise((resolve, reject) => {
                    signal.addEventListener("abort", () => {
                        reasons.push(signal.reason);
                        if (job.data === "throws") {
                            reject(new UnrecoverableError("aborted"));
                        } else if (job.data === "returns") {
                            resolve("saved");
                        }
                    });
                }),
            { concurrency: 3, closeTimeout: 200 },
        );
        const events = record(worker);
        const jobs = await queue.addBulk(["deaf", "throws", "returns"].map((data) => ({ name: "n", data, opts: { jobId: data } })));
        await until("all handlers run", () => events.length === 3);
        const begin = performance.now();
        await within("the worker is closed", worker.close(), 10_000);
        assert.ok(performance.now() - begin >= 200);
        assert.equal(reasons.filter((reason) => reason instanceof WorkerClosedError).length, 3);
        assert.deepEqual(await Promise.all(jobs.map((job) => job.getState())), ["waiting", "waiting", "completed"]);
        assert.deepEqual(jobs.map(({ attemptsMade, message: { lapses } }) => [attemptsMade, lapses]), [[0, 0], [0, 0], [1, 0]]);
        assert.deepEqual(events.slice(3).map(([event, id]) => `${event} ${id}`).sort(), ["completed returns", "released deaf", "released throws"]);
    });

    test("close reports the lost lease of a handler that ignores its signal exactly once", async () => {
        const queue = open("close-lost");
        let end: () => void = () => {};
        let isAborted = false;
        const worker = work(
            "close-lost",
            (_, signal) => {
                signal.addEventListener("abort", () => (isAborted = true));
                return new Promise<void>((resolve) => (end = resolve));
            },
            { visibilityTimeout: 3_000 },
        );
        const events = record(worker);
        await queue.add("n", 1);
        await until("the handler runs", () => events.length === 1);
        await queue.delete({ confirm: "close-lost" });
        await until("the handler is aborted", () => isAborted);
        await worker.close({ force: true });
        end();
        await new Promise(setImmediate);
        assert.deepEqual(events.map(([event]) => event), ["active", "lost"]);
    });

    test("close with force does not wait for handlers", async () => {
        const queue = open("force");
        for (const force of [{ force: true }, true]) {
            const worker = work("force", () => new Promise(() => {}));
            const events = record(worker);
            const job = await queue.add("n", 1);
            await until("the handler runs", () => events.length === 1);
            const closing = worker.close();
            await within("the worker is closed", worker.close(force), 10_000);
            await within("the first call has ended, too", closing, 1_000);
            assert.equal(await job.getState(), "waiting");
            await job.remove();
        }
    });

    test("jobs that arrive after a pause or close are released, and their handlers do not start", async () => {
        for (const end of ["pause", "close"] as const) {
            const queue = open(`late-${end}`);
            const proxy = await Proxy.start(drover.url);
            let release: (deed: Deed) => void = () => {};
            const held = new Promise<Deed>((resolve) => (release = resolve));
            const isLease = ({ path }: { path: string }): boolean => path.endsWith("/leases");
            proxy.decide = (request) => (isLease(request) ? held : "pass");
            const kept = gate();
            const worker = work(`late-${end}`, kept.handler, { url: proxy.url });
            const job = await queue.add("n", 1);
            await until("the worker has asked for jobs", () => proxy.requests.some(isLease));
            const ended = worker[end]();
            release("pass");
            await ended;
            await until("the job is released", async () => (await message(`late-${end}`, job.id)).deliveries === 1 && (await job.isWaiting()));
            assert.equal(kept.started(), 0);
            await worker.close();
        }
    });

    test("workers that close while jobs arrive leave no lease behind", async () => {
        const queue = open("close-race");
        let done = false;
        const adding = (async () => {
            for (let i = 0; !done; i += 1) {
                await queue.addBulk(Array.from({ length: 3 }, () => ({ name: "n", data: i })));
            }
        })();
        let errors = 0;
        for (let round = 0; round < 60; round += 1) {
            const worker = work("close-race", () => 1, { concurrency: 2 });
            worker.on("error", () => (errors += 1));
            await sleep(round % 12);
            await worker.close();
        }
        done = true;
        await adding;
        // A lease that a closed worker left behind would last 30 s.
        await until("no job is active", async () => (await queue.getJobCounts()).active === 0, 5_000);
        const lapsed = [...(await drover.messages("close-race")).values()].filter(({ lapses }) => lapses > 0);
        assert.deepEqual(lapsed, []);
        assert.equal(errors, 0);
    });

    test("close ends within its time limits while the API is not available", async () => {
        const own = await Drover.start();
        const queue = open("close-away", { url: own.url });
        const kept = gate();
        const worker = work("close-away", kept.handler, { url: own.url, closeTimeout: 100 });
        const events = record(worker);
        await queue.add("n", 1);
        await until("the handler runs", () => kept.started() === 1);
        own.api.signal("SIGSTOP");
        await within("the worker is closed", worker.close(), 15_000);
        assert.deepEqual(events.map(([event]) => event).filter((event) => event !== "error"), ["active", "lost"]);
        own.api.signal("SIGCONT");
        await own.stop();
    });

    test("a process ends by itself after close, and an open queue alone does not keep a process running", () => {
        const program = `
            const { Queue, Worker } = require("drover-client");
            const queue = new Queue("process", { url: process.argv[1] });
            const worker = new Worker("process", (job) => job.data, { url: process.argv[1], autorun: false });
            worker.run();
            queue.add("n", 5).then((job) => job.waitUntilFinished()).then(async (result) => {
                await worker.close();
                console.log(result);
            });
        `;
        const { stdout, stderr, status } = spawnSync(process.execPath, ["-e", program, drover.url], { encoding: "utf8", timeout: 30_000 });
        assert.deepEqual([status, stdout, stderr], [0, "5\n", ""]);
    });
});
