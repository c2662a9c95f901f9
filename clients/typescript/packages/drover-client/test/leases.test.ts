/** Tests of the leases of running handlers: extensions, lost leases, cancelled jobs and timeouts. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { CancelledError, LeaseLostError, TimedOutError } from "drover-client";
import { drover, gate, message, open, work, setUp } from "./fixture.js";
import { Drover, Proxy, record, until, within } from "./harness.js";

setUp();

describe("leases", () => {
    test("the lease of a running handler is extended as long as the handler runs", async () => {
        const queue = open("long");
        const kept = gate();
        const events = record(work("long", kept.handler, { visibilityTimeout: 2_000 }));
        const job = await queue.add("n", 1);
        await until("the handler runs", () => kept.started() === 1);
        const begin = await message("long", job.id);
        await sleep(4_500);
        kept.open("done");
        assert.equal(await job.waitUntilFinished(), "done");
        const stored = await message("long", job.id);
        assert.deepEqual([stored.deliveries, stored.lapses, stored.started_at], [1, 0, begin.started_at]);
        assert.deepEqual(events.map(([event]) => event), ["active", "completed"]);
    });

    test("a handler whose lease is over is aborted with LeaseLostError", async () => {
        const queue = open("lost");
        const kept = gate();
        const worker = work("lost", kept.handler, { visibilityTimeout: 3_000 });
        const events = record(worker);
        await queue.add("n", 1);
        await until("the handler runs", () => kept.started() === 1);
        // The deletion of the queue ends the lease.
        await drover.raw("DELETE", "/v1/queues/lost?confirm=lost");
        await until("the handler is aborted", () => kept.reasons.length === 1);
        assert.ok(kept.reasons[0] instanceof LeaseLostError);
        assert.match((kept.reasons[0] as Error).message, /the API says that the lease is over/);
        await until("the loss is reported", () => events.length === 2);
        assert.deepEqual(events.map(([event]) => event), ["active", "lost"]);
        const next = await queue.add("n", 2);
        await until("the worker goes on", () => kept.started() === 2);
        kept.open("fine");
        assert.equal(await next.waitUntilFinished(), "fine");
    });

    test("a handler is aborted at its deadline while the API hangs, and its job runs again", async () => {
        const own = await Drover.start();
        const queue = open("hang", { url: own.url });
        const kept = gate();
        const worker = work("hang", kept.handler, { url: own.url, visibilityTimeout: 1_000 });
        const events = record(worker);
        const job = await queue.add("n", 1);
        await until("the handler runs", () => kept.started() === 1);
        own.api.signal("SIGSTOP");
        await until("the handler is aborted", () => kept.reasons.length === 1);
        assert.match((kept.reasons[0] as Error).message, /its deadline passed/);
        own.api.signal("SIGCONT");
        await until("the job runs again", () => kept.started() === 2);
        kept.open("second");
        assert.equal(await within("the job is completed", job.waitUntilFinished()), "second");
        assert.deepEqual(events.map(([event]) => event).filter((event) => event !== "error"), ["active", "lost", "active", "completed"]);
        await worker.close();
        await own.stop();
    });

    test("a value returned after the deadline of the lease completes the job unless another worker has the job", async () => {
        const queue = open("late");
        const proxy = await Proxy.start(drover.url);
        // The proxy breaks extensions and lease requests, so that the lease lapses and no worker leases the job again. After the handler
        // has ended, the proxy passes all requests.
        let isAway = false;
        proxy.decide = () => (isAway ? "refuse" : "pass");
        let end: (value: string) => void = () => {};
        const result = new Promise<string>((resolve) => (end = resolve));
        const aborted: unknown[] = [];
        const worker = work(
            "late",
            (_, signal) => {
                signal.addEventListener("abort", () => aborted.push(signal.reason));
                return result;
            },
            { url: proxy.url, visibilityTimeout: 1_500 },
        );
        const events = record(worker);
        const job = await queue.add("n", 1);
        await until("the handler runs", () => events.length === 1);
        isAway = true;
        await until("the lease has lapsed", () => aborted.length === 1);
        await worker.pause(true);
        end("late");
        isAway = false;
        await until("the settlement is answered", () => events.some(([event]) => event === "completed" || event === "lost"));
        assert.deepEqual(events.map(([event]) => event).filter((event) => event !== "error"), ["active", "completed"]);
        assert.equal(await within("the job is completed", job.waitUntilFinished()), "late");
        await worker.close();
        proxy.stop();
    });

    test("a cancelled job aborts its handler with CancelledError, and fails as cancelled", async () => {
        const queue = open("cancelled");
        const kept = gate();
        const events = record(work("cancelled", kept.handler, { visibilityTimeout: 3_000 }));
        const job = await queue.add("n", 1, { attempts: 3 });
        await until("the handler runs", () => kept.started() === 1);
        await job.cancel();
        await until("the handler is aborted", () => kept.reasons.length === 1);
        assert.ok(kept.reasons[0] instanceof CancelledError);
        await assert.rejects(job.waitUntilFinished(), (error: { code: string }) => error.code === "cancelled");
        await until("the failure is reported", () => events.length === 2);
        assert.deepEqual(events.map(([event]) => event), ["active", "failed"]);
    });

    test("a handler that returns a value although its job is cancelled completes the job", async () => {
        const queue = open("cancelled-late");
        work("cancelled-late", (_, signal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve("still"))), {
            visibilityTimeout: 3_000,
        });
        const job = await queue.add("n", 1);
        await until("the handler runs", async () => (await job.getState()) === "active");
        await job.cancel();
        assert.equal(await job.waitUntilFinished(), "still");
    });

    test("a run that exceeds its timeout is aborted with TimedOutError in time, and the attempt fails as timed_out", async () => {
        const queue = open("timed-out");
        const kept = gate();
        const worker = work("timed-out", kept.handler);
        const events = record(worker);
        const job = await queue.add("n", 1, { timeout: 300, attempts: 1 });
        await assert.rejects(job.waitUntilFinished(), (error: { code: string }) => error.code === "timed_out");
        assert.ok(kept.reasons[0] instanceof TimedOutError);
        await until("the failure is reported", () => events.length === 2);
        assert.deepEqual(events.map(([event]) => event), ["active", "failed"]);
        // The handler ignores its abort signal, so the API ends the attempt.
        let end: () => void = () => {};
        const deaf = record(work("deaf", () => new Promise<void>((resolve) => (end = resolve))));
        const other = await open("deaf").add("n", 1, { timeout: 100, attempts: 1 });
        await assert.rejects(other.waitUntilFinished(), (error: { code: string }) => error.code === "timed_out");
        end();
        await until("the failure is reported", () => deaf.length === 2);
        assert.deepEqual(deaf.map(([event, , error]) => [event, error instanceof TimedOutError]), [["active", false], ["failed", true]]);
    });
});
