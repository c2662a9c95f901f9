/** Tests of the classes Queue and Job with a real API. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { ConnectionError, DroverError, JobFailedError, Queue, WaitTimeoutError } from "drover-client";
import { drover, open, settleOne, setUp } from "./fixture.js";
import { Drover, within } from "./harness.js";

setUp();

describe("add", () => {
    test("add stores the data, the name and every option of a job", async () => {
        const queue = open("options");
        const dueAt = new Date(Date.now() + 3_600_000);
        const job = await queue.add("mail", { to: "ada", zeichen: "ß✅" }, {
            jobId: "mail-1",
            deliverAt: dueAt,
            priority: -3,
            attempts: 7,
            backoff: { type: "exponential", delay: 250, jitter: 0.5, max: "1h" },
            timeout: "1m",
            ttl: "2h",
            group: "g",
            headers: { a: "b" },
        });
        const stored = await drover.raw("GET", "/v1/queues/options/messages/mail-1");
        assert.deepEqual(stored.data, { to: "ada", zeichen: "ß✅" });
        assert.equal(stored.name, "mail");
        assert.equal(stored.priority, -3);
        assert.equal(stored.max_attempts, 7);
        assert.equal(stored.group, "g");
        assert.deepEqual(stored.headers, { a: "b" });
        assert.equal(Date.parse(stored.due_at), dueAt.getTime());
        assert.equal(Date.parse(stored.expires_at) - Date.parse(stored.created_at), 7_200_000);
        assert.equal(job.id, "mail-1");
        assert.equal(job.state, "delayed");
        assert.equal(job.duplicate, false);
        assert.equal(job.opts.jobId, "mail-1");
        assert.equal(job.opts.attempts, 7);
        assert.equal(job.queueName, "options");
        assert.equal(job.timestamp, Date.parse(stored.created_at));
        assert.equal(JSON.parse(JSON.stringify(job)).data.to, "ada");
    });

    test("a job added with an empty name and without data has no name and the data null", async () => {
        const job = await open("empty").add("", undefined);
        const stored = await drover.raw("GET", `/v1/queues/empty/messages/${job.id}`);
        assert.equal(stored.name, null);
        assert.equal(stored.data, null);
        assert.equal(job.name, "");
        assert.equal(job.opts.jobId, undefined);
    });

    test("a taken jobId returns the existing job and stores nothing", async () => {
        const queue = open("own-ids");
        const first = await queue.add("x", 1, { jobId: "a" });
        const second = await queue.add("x", 2, { jobId: "a" });
        assert.deepEqual([first.duplicate, second.duplicate, second.data], [false, true, 1]);
        assert.equal((await queue.getJobCounts()).waiting, 1);
    });

    test("a number as back-off is a fixed pause without jitter", async () => {
        const queue = open("fixed-backoff");
        const job = await queue.add("x", 1, { attempts: 2, backoff: 60_000 });
        await settleOne("fixed-backoff", { action: "fail" });
        const stored = await drover.raw("GET", `/v1/queues/fixed-backoff/messages/${job.id}`);
        const pause = Date.parse(stored.due_at) - Date.parse(stored.error.at);
        assert.ok(pause >= 59_900 && pause <= 60_100, `the pause was ${pause} ms`);
    });

    test("options of Bull that Drover does not have are refused with advice", async () => {
        const queue = open("advice");
        const refused: [object, RegExp][] = [
            [{ removeOnComplete: true }, /removeOnComplete: use queue\.updateSettings\(\{ retention/],
            [{ lifo: true }, /lifo: use priority/],
            [{ repeat: { every: 1000 } }, /upsertJobScheduler/],
            [{ dealy: 5 }, /dealy: unknown option/],
            [{ backoff: { type: "fixed", dealy: 5 } }, /backoff\.dealy: unknown/],
            [{ deliverAt: "tomorrow" }, /deliverAt: not an instant/],
        ];
        for (const [options, expected] of refused) {
            await assert.rejects(queue.add("x", 1, options), expected);
        }
        assert.throws(() => open("advice", { defaultJobOptions: { lifo: true } as object }), /lifo: use priority/);
    });

    test("an error of the API has its code, the wrong field and the request id", async () => {
        const error = await open("mistakes").add("x", 1, { priority: 1e9 }).catch((caught: unknown) => caught);
        assert.ok(error instanceof DroverError);
        assert.equal(error.code, "invalid_message");
        assert.equal(error.status, 422);
        assert.equal(error.errors[0]?.pointer, "/priority");
        assert.match(error.requestId ?? "", /^[0-9a-f]{16}$/);
    });

    test("default options apply unless the job has options of its own", async () => {
        const queue = open("defaults", { defaultJobOptions: { attempts: 9, delay: "1h" } });
        const defaults = await queue.add("x", 1);
        const own = await queue.add("x", 1, { attempts: 2, deliverAt: new Date() });
        assert.deepEqual([defaults.state, defaults.opts.attempts], ["delayed", 9]);
        assert.equal(own.opts.attempts, 2);
    });
});

describe("jobs", () => {
    test("waitUntilFinished returns the result of a job, throws the failure, and ends at its time limit", async () => {
        const queue = open("waits");
        const job = await queue.add("x", 1, { attempts: 1 });
        await assert.rejects(job.waitUntilFinished(50), WaitTimeoutError);
        const waiting = job.waitUntilFinished();
        await settleOne("waits", { action: "complete", result: { a: 1 } });
        assert.deepEqual(await waiting, { a: 1 });
        assert.equal(job.attemptsMade, 1);
        assert.ok((job.finishedOn ?? 0) >= (job.processedOn ?? Infinity));
        const failing = await queue.add("x", 1, { attempts: 1 });
        await settleOne("waits", { action: "fail", error: { code: "odd", message: "is odd" } });
        const error = await failing.waitUntilFinished().catch((caught: unknown) => caught);
        assert.ok(error instanceof JobFailedError);
        assert.deepEqual([error.code, error.message, error.jobId], ["odd", "is odd", failing.id]);
        assert.equal(failing.failedReason, "is odd");
        await failing.remove();
        await assert.rejects(failing.waitUntilFinished(), /is forgotten/);
        assert.equal(await failing.getState(), "unknown");
    });

    test("waitUntilFinished continues after the API was killed and started again", async () => {
        const own = await Drover.start();
        const queue = new Queue("waits", { url: own.url });
        const job = await queue.add("x", 1);
        const waiting = job.waitUntilFinished();
        await own.api.end("SIGKILL");
        await own.startApi();
        const { messages } = await own.raw("POST", "/v1/queues/waits/leases", { wait: "10s" });
        await own.raw("POST", "/v1/queues/waits/leases/complete", { lease: messages[0].lease, result: 5 });
        assert.equal(await within("the result is known", waiting), 5);
        await queue.close();
        await own.stop();
    });

    test("closing the queue ends a wait", async () => {
        const queue = open("closing");
        const job = await queue.add("x", 1);
        const waiting = job.waitUntilFinished().catch((error: unknown) => error);
        await within("the queue is closed", queue.close(), 10_000);
        assert.ok((await waiting) instanceof ConnectionError);
        await assert.rejects(queue.add("x", 1), /the client is closed/);
    });

    test("a job's delay, priority and data are changed, and jobs are promoted, cancelled and retried", async () => {
        const queue = open("changes");
        const job = await queue.add("x", 1, { delay: "1h", attempts: 1 });
        await job.changePriority({ priority: 5 });
        await job.updateData({ new: true });
        await job.changeDelay("2h");
        const stored = await drover.raw("GET", `/v1/queues/changes/messages/${job.id}`);
        assert.deepEqual([stored.priority, stored.data, job.data], [5, { new: true }, { new: true }]);
        await job.promote();
        assert.equal(job.state, "waiting");
        await assert.rejects(job.promote(), (error: DroverError) => error.code === "message_waiting");
        await job.cancel();
        assert.deepEqual([job.state, job.error?.code], ["failed", "cancelled"]);
        await job.retry();
        assert.equal(await job.isWaiting(), true);
        await assert.rejects(job.updateProgress(1), /possible only inside the handler/);
    });
});

describe("queues", () => {
    test("a queue counts and lists its jobs, and is paused, retried, purged and deleted", async () => {
        const queue = open("managed");
        assert.deepEqual([await queue.retryJobs(), await queue.purge("failed"), await queue.resume()], [0, 0, undefined]);
        assert.deepEqual(await queue.getJobCounts("waiting", "failed"), { waiting: 0, failed: 0 });
        assert.equal(await queue.isPaused(), false);
        assert.deepEqual((await queue.listJobs("waiting")).jobs, []);
        await queue.addBulk(Array.from({ length: 5 }, (_, i) => ({ name: i % 2 ? "odd" : "even", data: i, opts: { attempts: 1 } })));
        const first = await queue.listJobs("waiting", { limit: 3 });
        const second = await queue.listJobs("waiting", { limit: 3, cursor: first.nextCursor });
        assert.deepEqual([...first.jobs, ...second.jobs].map(({ data }) => data), [0, 1, 2, 3, 4]);
        assert.equal(second.nextCursor, undefined);
        assert.deepEqual((await queue.listJobs("waiting", { name: "odd" })).jobs.map(({ data }) => data), [1, 3]);
        await settleOne("managed", { action: "fail" });
        await settleOne("managed", { action: "fail" });
        await queue.pause();
        assert.equal(await queue.isPaused(), true);
        await queue.resume();
        assert.equal(await queue.isPaused(), false);
        assert.equal(await queue.retryJobs(), 2);
        assert.deepEqual(await queue.getJobCounts(), { held: 0, delayed: 0, waiting: 5, active: 0, completed: 0, failed: 0 });
        assert.equal(await queue.purge("waiting"), 5);
        await assert.rejects(queue.delete({ confirm: "other" }), (error: DroverError) => error.code === "not_confirmed");
        await queue.delete({ confirm: "managed" });
        await assert.rejects(queue.status(), (error: DroverError) => error.code === "queue_not_found");
    });

    test("a queue may be paused before its first job", async () => {
        const queue = open("paused-first");
        await queue.pause();
        assert.equal(await queue.isPaused(), true);
        await queue.delete({ confirm: "paused-first" });
    });

    test("settings are changed, and signals release held jobs", async () => {
        const queue = open("settings");
        const settings = await queue.updateSettings({ rate_limit: { max: 10, duration: "1s" }, max_attempts: 5 });
        assert.deepEqual([settings.rate_limit, settings.max_attempts], [{ max: 10, duration: 1_000 }, 5]);
        assert.equal((await queue.settings()).max_attempts, 5);
        const held = await queue.add("x", 1, { hold: "paid:1" });
        assert.equal(await held.isHeld(), true);
        assert.equal(await queue.signal("paid:1", { data: { amount: 3 } }), 1);
        assert.equal(await held.getState(), "waiting");
        assert.deepEqual(held.signal, { amount: 3 });
        assert.equal(await queue.signal("paid:2", { stickyFor: "1m" }), 0);
        assert.equal((await queue.add("x", 1, { hold: "paid:2" })).state, "waiting");
    });

    test("schedules are created, replaced, read, listed and removed", async () => {
        const queue = open("schedules", { defaultJobOptions: { attempts: 4 } });
        assert.equal(await queue.getJobScheduler("a"), undefined);
        const every = await queue.upsertJobScheduler("a", { every: 60_000, limit: 3 }, { name: "tick", data: { a: 1 } });
        assert.deepEqual([every.id, every.every, every.limit, every.name, every.data], ["a", 60_000, 3, "tick", { a: 1 }]);
        assert.equal(every.schedule.message.max_attempts, 4);
        assert.ok((every.next ?? 0) > Date.now() - 60_000);
        const cron = await queue.upsertJobScheduler("a", { pattern: "30 9 * * mon-fri", tz: "Europe/Berlin", endDate: "2040-01-01T00:00:00Z" });
        assert.deepEqual([cron.pattern, cron.tz, cron.every, cron.endDate], ["30 9 * * mon-fri", "Europe/Berlin", undefined, Date.UTC(2040, 0)]);
        await queue.upsertJobScheduler("b", { every: "1h", offset: "5m", missed: "skip", overlap: "skip" }, { data: 1 });
        assert.deepEqual((await queue.getJobSchedulers()).map(({ id, offset }) => [id, offset]), [["a", undefined], ["b", 300_000]]);
        await assert.rejects(queue.upsertJobScheduler("c", { every: 1000, immediately: true } as object), /immediately: add one job/);
        assert.equal(await queue.removeJobScheduler("a"), true);
        assert.equal(await queue.removeJobScheduler("a"), false);
    });
});
