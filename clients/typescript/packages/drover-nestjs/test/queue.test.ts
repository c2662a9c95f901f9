/** Tests of Bull's queue and jobs with a real API: the stored jobs, the order of the runs, and the results of the getters. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Job, Queue } from "drover-nestjs";

import { Services, until } from "./services.js";

let services: Services;
const queues: Queue[] = [];
before(async () => {
    services = await Services.start();
});
after(async () => {
    await Promise.all(queues.map((queue) => queue.close()));
    await services.stop();
});

function open<T = any>(name: string, options: object = {}): Queue<T> {
    const queue = new Queue<T>(name, { url: services.url, ...options });
    queues.push(queue);
    return queue;
}

test("add answers the job with Bull's fields", async () => {
    const queue = open("answers");
    const job = await queue.add("my-queue", { hello: 1 }, { delay: 1500 });
    assert.ok(job instanceof Job);
    assert.match(String(job.id), /^[0-9]{14}$/);
    const json = JSON.parse(JSON.stringify(job));
    assert.deepEqual(json, {
        id: job.id,
        name: "my-queue",
        data: { hello: 1 },
        opts: { delay: 1500, attempts: 1 },
        progress: 0,
        delay: 1500,
        timestamp: json.timestamp,
        attemptsMade: 0,
        stacktrace: [],
        returnvalue: null,
        finishedOn: null,
        processedOn: null,
    });
    assert.ok(Math.abs(json.timestamp - Date.now()) < 60_000);
    assert.equal(await job.getState(), "delayed");
    assert.equal(await job.isDelayed(), true);
});

test("a job has one attempt unless attempts are given, whatever the queue's setting", async () => {
    const queue = open("defaults");
    const one = await queue.add({});
    const three = await queue.add({}, { attempts: 3 });
    const bulk = [{ data: {} }, { data: {}, opts: { attempts: 2 } }];
    const many = await open("defaults", { defaultJobOptions: { attempts: 7 } }).addBulk(bulk);
    const attempts = [one, three, ...many].map(async ({ id }) => (await services.get(`defaults/messages/${id}`)).max_attempts);
    assert.deepEqual(await Promise.all(attempts), [1, 3, 7, 2]);
});

test("a queue may be paused, and resumed, before its first job", async () => {
    const queue = open("fresh");
    await queue.resume();
    await queue.pause();
    assert.equal(await queue.isPaused(), true);
    await queue.resume();
    assert.equal(await queue.isPaused(), false);
});

test("a listener of all processes' events may come before the queue's first job", async () => {
    const queue = open("fresh-stream");
    const errors: Error[] = [];
    const seen: unknown[] = [];
    queue.on("error", (error) => errors.push(error));
    queue.on("global:waiting", (id) => seen.push(id));
    await until("the queue exists", () => services.get("fresh-stream").catch(() => undefined));
    await until("the stream is open", async () => {
        await queue.add({});
        return seen.length > 0;
    });
    assert.deepEqual(errors, []);
});

test("further attempts follow at once without a backoff, and after the pause with a backoff", async () => {
    const queue = open("pauses");
    const starts: number[] = [];
    void queue.process("*", () => {
        starts.push(Date.now());
        return Promise.reject(new Error("again"));
    });
    await assert.rejects((await queue.add("none", {}, { attempts: 3 })).finished());
    const withoutPause = starts.splice(0);
    assert.equal(withoutPause.length, 3);
    await assert.rejects((await queue.add("fixed", {}, { attempts: 3, backoff: 400 })).finished());
    const [first = 0, second = 0, third = 0] = starts;
    assert.ok(second - first >= 399 && third - second >= 399, `the attempts started at ${starts.join(", ")}`);
});

test("jobs run in the order of Bull's priorities", async () => {
    const queue = open("priorities");
    const added = [["none 1"], ["5 a", 5], ["1", 1], ["none 2"], ["5 b", 5], ["lowest", 2_147_483_647], ["2", 2]] as const;
    for (const [name, priority] of added) {
        await queue.add(name, {}, priority === undefined ? {} : { priority });
    }
    const waiting = (await queue.getWaiting()).map(({ name, opts }) => [name, opts.priority]);
    const expected = [["1", 1], ["2", 2], ["5 a", 5], ["5 b", 5], ["lowest", 2_097_152], ["none 1", undefined], ["none 2", undefined]];
    assert.deepEqual(waiting, expected);
    const order: string[] = [];
    void queue.process("*", async (job: Job) => {
        order.push(job.name);
    });
    await until("all jobs have run", () => order.length === 7);
    assert.deepEqual(
        order,
        expected.map(([name]) => name),
    );
});

test("a second job with the same jobId is not stored, even if the jobId is a number", async () => {
    const queue = open("ids");
    for (const jobId of ["order-42", 42]) {
        const first = await queue.add({ n: 1 }, { jobId });
        const second = await queue.add({ n: 2 }, { jobId });
        assert.equal(first.id, String(jobId));
        assert.equal(second.id, String(jobId));
        assert.deepEqual((await queue.getJob(jobId))?.data, { n: 1 });
        assert.equal((await queue.getJob(String(jobId)))?.opts.jobId, String(jobId));
    }
    assert.equal(await queue.count(), 2);
    assert.equal(await queue.getJob("unknown"), null);
    assert.equal(await queue.getJob(77), null);
});

test("absent data becomes an empty object, and other data is kept", async () => {
    const queue = open("data");
    const jobs = await queue.addBulk([undefined, { a: [1, "ü"] }, "text", 5].map((data) => ({ data })));
    const kept = await Promise.all(jobs.map(async ({ id }) => (await queue.getJob(id))?.data));
    assert.deepEqual(kept, [{}, { a: [1, "ü"] }, "text", 5]);
});

test("the limiter becomes the rate limit of the queue, and limits the jobs", async () => {
    const queue = open("limited", { limiter: { max: 3, duration: 1_000 } });
    await until("the rate limit", async () => (await services.get("limited")).settings?.rate_limit?.max === 3);
    assert.deepEqual((await services.get("limited")).settings.rate_limit, { max: 3, duration: 1_000 });
    const starts: number[] = [];
    void queue.process(10, async () => {
        starts.push(Date.now());
    });
    const jobs = await queue.addBulk(Array.from({ length: 7 }, (_, n) => ({ data: n })));
    await Promise.all(jobs.map((job) => job.finished()));
    assert.equal(starts.length, 7);
    const inFirst = starts.filter((start) => start - starts[0]! < 900).length;
    assert.ok(inFirst <= 6, `${inFirst} of 7 jobs began within 0.9 s`);
    assert.ok(starts[6]! - starts[0]! >= 900, `all jobs began within ${starts[6]! - starts[0]!} ms`);
});

test("removeOnComplete and removeOnFail of a queue become its retention", async () => {
    open("kept", { defaultJobOptions: { removeOnComplete: { age: 3600, count: 50 }, removeOnFail: 9 }, settings: { maxStalledCount: 4 } });
    const settings = await until("the settings", async () => {
        const { settings } = await services.get("kept");
        return settings?.retention.failed.count === 9 ? settings : undefined;
    });
    assert.equal(settings.retention.completed.age, 3_600_000);
    assert.equal(settings.retention.completed.count, 50);
    assert.equal(settings.max_lapses, 5);
});

test("getters read ranges and counts of each state", async () => {
    const queue = open("getters");
    assert.deepEqual(await queue.getJobCounts(), { waiting: 0, active: 0, completed: 0, failed: 0, delayed: 0, paused: 0 });
    assert.deepEqual(await queue.getWaiting(), []);
    assert.equal(await queue.isPaused(), false);
    await queue.addBulk(Array.from({ length: 30 }, (_, n) => ({ data: n })));
    await queue.addBulk([3, 1, 2].map((n) => ({ data: n, opts: { delay: n * 3_600_000 } })));
    const data = async (jobs: Promise<Job[]>): Promise<unknown[]> => (await jobs).map((job) => job.data);
    assert.deepEqual(await data(queue.getWaiting(0, 2)), [0, 1, 2]);
    assert.deepEqual(await data(queue.getWaiting(28)), [28, 29]);
    assert.deepEqual(await data(queue.getJobs(["waiting"], 0, 1)), [29, 28]);
    assert.deepEqual(await data(queue.getJobs(["waiting", "delayed"], 0, 0, true)), [0, 1]);
    assert.deepEqual(await data(queue.getDelayed()), [1, 2, 3]);
    assert.equal((await queue.getJobs([])).length, 33);
    assert.deepEqual(await queue.getJobCounts(), { waiting: 30, active: 0, completed: 0, failed: 0, delayed: 3, paused: 0 });
    assert.equal(await queue.getJobCountByTypes(["waiting", "delayed"]), 33);
    assert.equal(await queue.count(), 33);
    await queue.pause();
    assert.equal(await queue.isPaused(), true);
    assert.equal(await queue.getPausedCount(), 30);
    assert.equal(await queue.getWaitingCount(), 30);
    assert.equal(await (await queue.getWaiting(0, 0))[0]?.getState(), "paused");
    await queue.resume();
    assert.equal(await queue.getPausedCount(), 0);
    const removed = await queue.clean(0, "delayed", 2);
    assert.equal(removed.length, 2);
    assert.equal(await queue.getDelayedCount(), 1);
    await queue.empty();
    assert.equal(await queue.count(), 0);
});

test("failed jobs are read, retried and removed", async () => {
    const queue = open("retries");
    let isBroken = true;
    void queue.process(async (job: Job) => {
        if (isBroken) {
            throw new Error("broken");
        }
        return job.data;
    });
    const jobs = await queue.addBulk([1, 2, 3].map((n) => ({ data: n, opts: { jobId: `job-${n}` } })));
    await Promise.all(jobs.map((job) => assert.rejects(job.finished(), /broken/)));
    assert.equal(await queue.getFailedCount(), 3);
    assert.deepEqual(new Set((await queue.getFailed()).map(({ failedReason }) => failedReason)), new Set(["broken"]));
    isBroken = false;
    await jobs[0]?.retry();
    assert.equal(await jobs[0]?.finished(), 1);
    await queue.retryJobs();
    assert.deepEqual(await Promise.all(jobs.map((job) => job.finished())), [1, 2, 3]);
    await queue.removeJobs("job-[12]");
    assert.deepEqual(
        (await queue.getCompleted()).map(({ id }) => id),
        ["job-3"],
    );
    assert.equal(await jobs[0]?.getState(), "stuck");
    await queue.obliterate();
    assert.equal(await jobs[2]?.getState(), "stuck");
});

test("a delayed job is promoted, and a waiting job's data is updated", async () => {
    const queue = open("promoted");
    const job = await queue.add({ n: 1 }, { delay: 3_600_000 });
    await job.update({ n: 2 });
    await job.promote();
    void queue.process(async ({ data }: Job) => data);
    assert.deepEqual(await job.finished(), { n: 2 });
});

test("job.update of an active job fails with advice, and job.log has no effect", async () => {
    const queue = open("active");
    void queue.process(async (job: Job) => {
        await job.log("a row");
        await job.update({ n: 2 });
    });
    await assert.rejects((await queue.add({})).finished(), /job\.update\(\) of an active job is not supported by Drover: .*progress/);
});

test("a repetition becomes a schedule, and its jobs run", async () => {
    const queue = open("repeats");
    const seen: Job[] = [];
    void queue.process("tick", async (job: Job) => {
        seen.push(job);
    });
    const first = await queue.add("tick", { a: 1 }, { repeat: { every: 1_000, limit: 2 }, jobId: "my", priority: 3 });
    await queue.add("tick", { a: 1 }, { repeat: { every: 1_000, limit: 2 }, jobId: "my", priority: 3 });
    await queue.add("daily", {}, { repeat: { cron: "0 9 * * 1-5", tz: "Europe/Berlin" } });
    assert.equal(first.name, "tick");
    assert.ok(first.delay <= 1_000);
    assert.match(String(first.id), /^repeat:tick:/);
    assert.equal(await queue.getRepeatableCount(), 2);
    const [daily, tick] = await queue.getRepeatableJobs();
    assert.equal(daily?.cron, "0 9 * * 1-5");
    assert.equal(daily?.tz, "Europe/Berlin");
    assert.equal(daily?.name, "daily");
    assert.equal(tick?.every, 1_000);
    assert.equal(tick?.id, "my");
    assert.ok(Number(daily?.next) > Date.now());
    await until("two ticks", () => seen.length === 2);
    assert.deepEqual(seen[0]?.data, { a: 1 });
    assert.equal(seen[0]?.opts.priority, 3);
    assert.equal((seen[0]?.opts.repeat as { key?: string }).key, tick?.key);
    await queue.removeRepeatableByKey(String(tick?.key));
    await queue.removeRepeatable("daily", { cron: "0 9 * * 1-5", tz: "Europe/Berlin" });
    assert.deepEqual(await queue.getRepeatableJobs(), []);
    assert.equal(await queue.add("tick", {}, { repeat: { every: 1_000, endDate: Date.now() - 1_000 } }), undefined);
});

test("a local pause stops this process only, and waits for its handlers", async () => {
    const [here, there] = [open("local"), open("local")];
    const seen: string[] = [];
    void here.process(async () => void seen.push("here"));
    await (await here.add({})).finished();
    await here.pause(true);
    assert.equal(await here.isPaused(true), true);
    assert.equal(await here.isPaused(), false);
    void there.process(async () => void seen.push("there"));
    await (await here.add({})).finished();
    await there.pause(true);
    await here.resume(true);
    await (await here.add({})).finished();
    assert.deepEqual(seen, ["here", "there", "here"]);
});

test("the events of all processes come from the API's stream", async () => {
    const [listener, worker] = [open("stream"), open("stream")];
    const seen: unknown[][] = [];
    for (const event of ["waiting", "active", "progress", "completed", "failed", "removed"]) {
        listener.on(`global:${event}`, (...args) => seen.push([event, ...args]));
    }
    void worker.process("*", async (job: Job) => {
        if (job.name === "bad") {
            throw new Error("is bad");
        }
        await job.progress({ half: true });
        return { ok: "✅" };
    });
    // The event stream has only events after its connection, so the test adds jobs until an event shows that the stream is open.
    await until("the stream is open", async () => {
        await (await worker.add("probe", {})).finished();
        return seen.length > 0;
    });
    const good = await worker.add("good", {}, { jobId: "good" });
    await good.finished();
    await assert.rejects((await worker.add("bad", {}, { jobId: 13 })).finished());
    const ofIds = (): unknown[][] => seen.filter(([, id]) => id === "good" || id === "13");
    await until("the failure", () => ofIds().some(([event]) => event === "failed"));
    await good.remove();
    await until("the last event", () => ofIds().some(([event]) => event === "removed"));
    assert.deepEqual(ofIds(), [
        ["waiting", "good"],
        ["active", "good", "waiting"],
        ["progress", "good", { half: true }],
        ["completed", "good", JSON.stringify({ ok: "✅" }), "active"],
        ["waiting", "13"],
        ["active", "13", "waiting"],
        ["failed", "13", "is bad", "active"],
        ["removed", "good"],
    ]);
});
