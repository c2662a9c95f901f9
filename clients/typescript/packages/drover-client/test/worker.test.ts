/** Workers against a real API: outcomes, leases, settlements, closing. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import {
    CancelledError,
    DroverError,
    LeaseLostError,
    type Processor,
    Queue,
    ReleaseError,
    RetryLaterError,
    TimedOutError,
    UnrecoverableError,
    Worker,
    WorkerClosedError,
    type WorkerOptions,
} from "drover-client";
import { Drover, type ProxiedRequest, Proxy, freePort, record, until, within } from "./harness.js";

let drover: Drover;
const queues: Queue<any, any>[] = [];
const workers: Worker<any, any>[] = [];

function open(name: string, url = drover.url): Queue<any, any> {
    const queue = new Queue<any, any>(name, { url });
    queues.push(queue);
    return queue;
}

function work(name: string, handler: Processor<any, any>, options: WorkerOptions = {}): Worker<any, any> {
    const worker = new Worker<any, any>(name, handler, { url: drover.url, ...options });
    workers.push(worker);
    return worker;
}

/** A handler that ends when the test says so, or when its signal is aborted. */
function gate(): { handler: Processor<any, any>; open: (value?: unknown) => void; reasons: unknown[]; started: () => number } {
    let end: (value?: unknown) => void = () => {};
    const opened = new Promise<unknown>((resolve) => (end = resolve));
    const reasons: unknown[] = [];
    let count = 0;
    const handler: Processor<any, any> = (_, signal) => {
        count += 1;
        return new Promise((resolve, reject) => {
            void opened.then(resolve);
            signal.addEventListener("abort", () => {
                reasons.push(signal.reason);
                reject(signal.reason as Error);
            });
        });
    };
    return { handler, open: end, reasons, started: () => count };
}

async function message(queue: string, id: string): Promise<any> {
    return drover.raw("GET", `/v1/queues/${queue}/messages/${id}`);
}

before(async () => {
    drover = await Drover.start();
});

after(async () => {
    await Promise.all(workers.map((worker) => worker.close({ force: true })));
    await Promise.all(queues.map((queue) => queue.close()));
    await Drover.stopAll();
});

describe("outcomes", () => {
    test("a returned value is the result, and undefined is null", async () => {
        const queue = open("results");
        const events = record(work("results", async (job) => job.data));
        const jobs = await queue.addBulk([{ a: 1 }, "✅", null, 0].map((data) => ({ name: "n", data })));
        const none = await queue.add("n", 1, { jobId: "none" });
        work("results-none", () => undefined);
        const undefinedJob = await open("results-none").add("n", 1);
        assert.deepEqual(await Promise.all(jobs.map((job) => job.waitUntilFinished())), [{ a: 1 }, "✅", null, 0]);
        assert.equal(await none.waitUntilFinished(), 1);
        assert.equal(await undefinedJob.waitUntilFinished(), null);
        await until("all events came", () => events.filter(([event]) => event === "completed").length === 5);
        for (const { id, data } of jobs) {
            assert.deepEqual(events.filter((event) => event[1] === id), [["active", id, undefined], ["completed", id, data]]);
        }
    });

    test("a thrown error fails the attempt with its code and message, and another attempt follows", async () => {
        const queue = open("failures");
        const worker = work("failures", (job) => {
            if (job.attemptsMade === 0) {
                throw Object.assign(new Error("no disk"), { code: "ENOSPC" });
            }
            return job.failedReason;
        });
        const failed: [string, string, string | undefined, number][] = [];
        worker.on("failed", (job, error) => failed.push([error.message, job.state, job.error?.code, job.attemptsMade]));
        const job = await queue.add("n", 1, { backoff: 0, attempts: 2 });
        assert.equal(await job.waitUntilFinished(), "no disk");
        assert.deepEqual(failed, [["no disk", "waiting", "ENOSPC", 1]]);
        assert.equal(job.attemptsMade, 2);
    });

    test("without attempts left the job has failed; anything may be thrown", async () => {
        const queue = open("throws");
        const values: unknown[] = [new TypeError("t"), "text", { message: "m" }, { a: 1 }, undefined, 10n, Object.create(null)];
        work("throws", (job) => {
            throw values[job.data as number];
        });
        const reasons = [];
        for (const index of values.keys()) {
            const job = await queue.add("n", index, { attempts: 1 });
            await assert.rejects(job.waitUntilFinished());
            reasons.push([job.failedReason, job.error?.code]);
        }
        assert.deepEqual(reasons.slice(0, 5), [["t", "failed"], ["text", "failed"], ["m", "failed"], ['{"a":1}', "failed"], ["undefined", "failed"]]);
    });

    test("UnrecoverableError, RetryLaterError, ReleaseError and discard", async () => {
        const queue = open("special");
        const released: string[] = [];
        let releases = 0;
        const worker = work("special", (job) => {
            if (job.data === "unrecoverable") {
                throw new UnrecoverableError("never");
            } else if (job.data === "foreign") {
                // The package may be in the program twice: as ES module and as CommonJS.
                throw Object.assign(new Error("never"), { name: "UnrecoverableError" });
            } else if (job.data === "discard") {
                job.discard();
                throw new Error("never");
            } else if (job.data === "later") {
                throw new RetryLaterError(3_600_000, "busy");
            } else if (job.data === "release" && releases++ === 0) {
                throw new ReleaseError();
            } else if (job.data === "pause") {
                throw new ReleaseError(3_600_000);
            }
            return job.attemptsMade;
        });
        worker.on("released", (job) => released.push(job.id));
        for (const kind of ["unrecoverable", "foreign", "discard"]) {
            const job = await queue.add("n", kind, { attempts: 3 });
            await assert.rejects(job.waitUntilFinished(), /never/);
            assert.equal(job.attemptsMade, 1);
        }
        const later = await queue.add("n", "later", { attempts: 3 });
        const due = await until("the job is delayed", async () => {
            const stored = await message("special", later.id);
            return stored.state === "delayed" && stored;
        });
        assert.deepEqual([due.error.message, due.attempts_made], ["busy", 1]);
        assert.ok(Date.parse(due.due_at) - Date.parse(due.error.at) > 3_590_000);
        const release = await queue.add("n", "release");
        assert.equal(await release.waitUntilFinished(), 0);
        const pause = await queue.add("n", "pause");
        await until("the job is delayed", async () => (await message("special", pause.id)).state === "delayed");
        await until("both releases are reported", () => released.length === 2);
        assert.equal((await message("special", pause.id)).attempts_made, 0);
    });

    test("an oversized result, and one that is not JSON, fail the job for good with a clear code", async () => {
        const queue = open("bad-results");
        const loop: Record<string, unknown> = {};
        loop["loop"] = loop;
        const values: Record<string, unknown> = { large: "✅".repeat(21_845), fits: "x".repeat(65_534), bigint: 1n, loop };
        const worker = work("bad-results", (job) => values[job.data as string]);
        const failed: string[] = [];
        worker.on("failed", (job) => failed.push(job.id));
        const jobs = await queue.addBulk(Object.keys(values).map((kind) => ({ name: "n", data: kind, opts: { jobId: kind, attempts: 3 } })));
        const codes: Record<string, unknown> = {};
        for (const job of jobs) {
            await job.waitUntilFinished().catch(() => {});
            codes[job.id] = [job.error?.code, job.attemptsMade];
        }
        assert.deepEqual(codes, { large: ["result_too_large", 1], fits: [undefined, 1], bigint: ["invalid_result", 1], loop: ["invalid_result", 1] });
        assert.match(jobs[0]?.failedReason ?? "", /65537 bytes as JSON, and may have 65536/);
        assert.deepEqual(failed.sort(), ["bigint", "large", "loop"]);
    });

    test("progress is stored and reported, also when the handler does not wait for it", async () => {
        const queue = open("progress");
        const events = record(
            work("progress", async (job) => {
                void job.updateProgress(10);
                await job.updateProgress({ step: 2 });
                const stored = (await message("progress", job.id)).progress as unknown;
                await assert.rejects(job.updateProgress("x".repeat(70_000)), /progress has 70002 bytes/);
                void job.updateProgress(1n);
                return stored;
            }),
        );
        const job = await queue.add("n", 1);
        assert.deepEqual(await job.waitUntilFinished(), { step: 2 });
        assert.deepEqual(job.progress, { step: 2 });
        assert.deepEqual(events.filter(([event]) => event === "progress").map(([, , value]) => value), [10, { step: 2 }]);
    });

    test("moveToCompleted and moveToFailed settle at once; what the handler does later changes nothing", async () => {
        const queue = open("by-hand");
        const kept = gate();
        const worker = work("by-hand", async (job) => {
            if (job.data === "complete") {
                await job.moveToCompleted("early");
                assert.equal((await message("by-hand", job.id)).result, "early");
                await assert.rejects(job.moveToCompleted("again"), /is settled already/);
                await assert.rejects(job.updateProgress(1), /is settled already/);
                return "late";
            }
            if (job.data === "throw") {
                await job.moveToCompleted("early");
                throw new Error("late");
            }
            await job.moveToFailed(new UnrecoverableError("by hand"));
            return "late";
        });
        const events = record(worker);
        const complete = await queue.add("n", "complete");
        assert.equal(await complete.waitUntilFinished(), "early");
        const thrown = await queue.add("n", "throw");
        assert.equal(await thrown.waitUntilFinished(), "early");
        const failed = await queue.add("n", "fail", { attempts: 1 });
        await assert.rejects(failed.waitUntilFinished(), /by hand/);
        await worker.close();
        kept.open();
        assert.deepEqual(events.filter(([event]) => event !== "error").map(([event, id]) => [event, id]), [
            ["active", complete.id],
            ["completed", complete.id],
            ["active", thrown.id],
            ["completed", thrown.id],
            ["active", failed.id],
            ["failed", failed.id],
        ]);
        assert.deepEqual(events.filter(([event]) => event === "error").map(([, , error]) => (error as Error).message), ["late"]);
    });

    test("exactly `concurrency` handlers run at once, and a changed concurrency holds", async () => {
        const queue = open("concurrency");
        await queue.addBulk(Array.from({ length: 30 }, (_, i) => ({ name: "n", data: i })));
        let running = 0;
        let most = 0;
        const worker = work(
            "concurrency",
            async () => {
                running += 1;
                most = Math.max(most, running);
                await sleep(5);
                running -= 1;
            },
            { concurrency: 4 },
        );
        await until("all jobs are completed", async () => (await queue.getJobCounts()).completed === 30);
        assert.equal(most, 4);
        worker.concurrency = 7;
        const kept = gate();
        const other = work("concurrency-2", kept.handler, { concurrency: 2 });
        await open("concurrency-2").addBulk(Array.from({ length: 8 }, (_, i) => ({ name: "n", data: i })));
        await until("two handlers run", () => kept.started() === 2);
        other.concurrency = 5;
        await until("five handlers run", () => kept.started() === 5);
        assert.throws(() => (other.concurrency = 0), /concurrency: 0 is not possible/);
        kept.open();
        await until("all jobs are completed", async () => (await open("concurrency-2").getJobCounts()).completed === 8);
    });
});

describe("leases", () => {
    test("the lease of a running handler is extended as long as the handler runs", async () => {
        const queue = open("long");
        const kept = gate();
        const events = record(work("long", kept.handler, { visibilityTimeout: 1_000 }));
        const job = await queue.add("n", 1);
        await until("the handler runs", () => kept.started() === 1);
        const begin = await message("long", job.id);
        await sleep(2_500);
        kept.open("done");
        assert.equal(await job.waitUntilFinished(), "done");
        const stored = await message("long", job.id);
        assert.deepEqual([stored.deliveries, stored.lapses, stored.started_at], [1, 0, begin.started_at]);
        assert.deepEqual(events.map(([event]) => event), ["active", "completed"]);
    });

    test("a handler whose lease is over is aborted with LeaseLostError", async () => {
        const queue = open("lost");
        const kept = gate();
        const worker = work("lost", kept.handler, { visibilityTimeout: 600 });
        const events = record(worker);
        await queue.add("n", 1);
        await until("the handler runs", () => kept.started() === 1);
        // With the queue, the lease ends.
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
        const queue = open("hang", own.url);
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

    test("a value returned after the deadline completes the job unless another worker has it", async () => {
        const queue = open("late");
        const proxy = await Proxy.start(drover.url);
        // The extensions and leases fail, so that the lease lapses and nobody leases the job again; settlements pass later.
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
            { url: proxy.url, visibilityTimeout: 500 },
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
        const events = record(work("cancelled", kept.handler, { visibilityTimeout: 600 }));
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
            visibilityTimeout: 600,
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
        // A handler that heeds no signal: the API ends the attempt.
        let end: () => void = () => {};
        const deaf = record(work("deaf", () => new Promise<void>((resolve) => (end = resolve))));
        const other = await open("deaf").add("n", 1, { timeout: 100, attempts: 1 });
        await assert.rejects(other.waitUntilFinished(), (error: { code: string }) => error.code === "timed_out");
        end();
        await until("the failure is reported", () => deaf.length === 2);
        assert.deepEqual(deaf.map(([event, , error]) => [event, error instanceof TimedOutError]), [["active", false], ["failed", true]]);
    });
});

describe("settlements", () => {
    const isSettle = ({ path }: ProxiedRequest): boolean => path.endsWith("/settle");

    test("what ends while a settlement is on its way goes into one later request", async () => {
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
        await until("the bound is reached", () => started === 1_040);
        isAway = false;
        await until("all jobs are completed", async () => (await queue.getJobCounts()).completed === 3_000);
        assert.equal(started, 3_000);
        await worker.close();
        proxy.stop();
    });
});

describe("an API that is away or refuses", () => {
    test("a worker waits for an API that starts later", async () => {
        const port = await freePort();
        const url = `http://127.0.0.1:${port}`;
        const worker = work("early", (job) => job.data as number, { url });
        const events = record(worker);
        await until("three requests failed", () => events.length >= 3);
        const adding = open("early", url).add("n", 5);
        await Drover.start({}, port);
        assert.equal(await (await adding).waitUntilFinished(), 5);
        await worker.close();
        assert.deepEqual(events.map(([event]) => event).filter((event) => event !== "error"), ["active", "completed"]);
    });

    test("a wrong key is reported, and not tried again in a hot loop", async () => {
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

    test("an API that permits only short waits is used with short waits", async () => {
        const own = await Drover.start({ DROVER__API__MAX_WAIT: "1500ms" });
        const events = record(work("short", (job) => job.data as number, { url: own.url }));
        const queue = open("short", own.url);
        const job = await queue.add("n", 5);
        await until("the job is completed", () => events.some(([event]) => event === "completed"));
        assert.deepEqual(events.filter(([event]) => event === "error"), []);
        assert.equal(await job.waitUntilFinished(), 5);
        await workers.at(-1)?.close();
        await own.stop();
    });
});

describe("pause and close", () => {
    test("a paused worker leases nothing, finishes what runs, and goes on after resume", async () => {
        const queue = open("paused");
        const kept = gate();
        const worker = work("paused", kept.handler, { concurrency: 2 });
        await queue.add("n", 1);
        await until("the handler runs", () => kept.started() === 1);
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

    test("close lets handlers end, confirms their results, and is the same when called again", async () => {
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

    test("close with force does not wait for handlers", async () => {
        const queue = open("force");
        const worker = work("force", () => new Promise(() => {}));
        const job = await queue.add("n", 1);
        await until("the handler runs", async () => (await job.getState()) === "active");
        const closing = worker.close();
        await worker.close({ force: true });
        await within("the first call has ended, too", closing, 1_000);
        assert.equal(await job.getState(), "waiting");
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
        // A lease that was left behind would last 30 s.
        await until("no job is active", async () => (await queue.getJobCounts()).active === 0, 5_000);
        const lapsed = [...(await drover.messages("close-race")).values()].filter(({ lapses }) => lapses > 0);
        assert.deepEqual(lapsed, []);
        assert.equal(errors, 0);
    });

    test("close ends within its limits while the API is away", async () => {
        const own = await Drover.start();
        const queue = open("close-away", own.url);
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

    test("a process ends by itself after close, and a queue alone does not keep it", () => {
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
        const { stdout, stderr, status } = spawnSync(process.execPath, ["-e", program, drover.url], { encoding: "utf8", timeout: 20_000 });
        assert.deepEqual([status, stdout, stderr], [0, "5\n", ""]);
    });
});
