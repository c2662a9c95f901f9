/** Tests of the outcomes of handlers: results, errors, releases and progress. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { ReleaseError, RetryLaterError, UnrecoverableError } from "drover-client";
import { drover, gate, message, open, work, setUp } from "./fixture.js";
import { Proxy, record, until } from "./harness.js";

setUp();

describe("outcomes", () => {
    test("the value that a handler returns is the result of its job, and undefined becomes null", async () => {
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

    test("a job without attempts left has failed, whatever value its handler threw", async () => {
        const queue = open("throws");
        const trap = {
            get message(): string {
                throw new Error("trap");
            },
        };
        const values: unknown[] = [new TypeError("t"), "text", { message: "m" }, { a: 1 }, undefined, 10n, Object.create(null), trap];
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
            } else if (job.data === "subclass") {
                class NotFound extends UnrecoverableError {
                    override name = "NotFound";
                }
                throw new NotFound("never");
            } else if (job.data === "foreign") {
                // A program may contain the package drover-client twice: as ES module and as CommonJS.
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
            } else if (job.data === "hold" && job.deliveries === 1) {
                throw new ReleaseError({ hold: "paid:42" });
            }
            return job.attemptsMade;
        });
        worker.on("released", (job) => released.push(job.id));
        for (const kind of ["unrecoverable", "subclass", "foreign", "discard"]) {
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
        const hold = await queue.add("n", "hold");
        const held = await until("the job is held", async () => {
            const stored = await message("special", hold.id);
            return stored.state === "held" && stored;
        });
        assert.equal(held.hold, "paid:42");
        assert.equal(await queue.signal("paid:42"), 1);
        assert.equal(await hold.waitUntilFinished(), 0);
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
        await until("all failures are reported", () => failed.length === 3);
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

    test("while the API is away, only the newest progress of a job waits", async () => {
        const queue = open("busy-progress");
        const proxy = await Proxy.start(drover.url);
        let isAway = true;
        proxy.decide = ({ path }) => (isAway && path.endsWith("/settle") ? "refuse" : "pass");
        const text = "x".repeat(10_000);
        const events = record(
            work(
                "busy-progress",
                async (job) => {
                    const promises = new Set<Promise<void>>();
                    for (let step = 0; step < 10_000; step += 1) {
                        promises.add(job.updateProgress({ step, text }));
                    }
                    assert.equal(promises.size, 2);
                    await until("a report was refused", () => proxy.requests.some(({ path }) => path.endsWith("/settle")));
                    isAway = false;
                    await Promise.all(promises);
                    assert.deepEqual(job.progress, { step: 9_999, text });
                    // What waits when the handler ends is stored before the result.
                    void job.updateProgress(1);
                    void job.updateProgress(2);
                    void job.updateProgress(3);
                    return "done";
                },
                { url: proxy.url },
            ),
        );
        const job = await queue.add("n", 1);
        assert.equal(await job.waitUntilFinished(), "done");
        await until("the completion is reported", () => events.some(([event]) => event === "completed"));
        const reported = events.filter(([event]) => event === "progress").map(([, , value]) => (value as { step?: number }).step ?? value);
        assert.deepEqual(reported, [0, 9_999, 1, 3]);
        assert.equal((await message("busy-progress", job.id)).progress, 3);
        proxy.stop();
    });

    test("moveToCompleted and moveToFailed settle at once, and a later result or error of the handler changes nothing", async () => {
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

    test("exactly `concurrency` handlers run at once, even after `concurrency` has changed", async () => {
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
