/**
 * Tests of the conversion of Bull's options to Drover's options, and of the error texts for options that Drover does not have. The tests
 * need no services.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { Queue, UnsupportedError, type JobOptions, type QueueOptions } from "drover-nestjs";

import { fromDroverId, possibleIds, toDroverId } from "../dist/esm/ids.js";
import { fromDroverPriority, toDroverOptions, toDroverPriority } from "../dist/esm/options.js";
import { scheduleName, toRule } from "../dist/esm/repeat.js";
import { settingsOf } from "../dist/esm/settings.js";

const NOWHERE = { url: "http://127.0.0.1:1", timeout: 0 };

test("a job without options has one attempt, as in Bull", () => {
    assert.deepEqual(toDroverOptions({}), { attempts: 1 });
});

test("attempts without backoff follow at once", () => {
    assert.deepEqual(toDroverOptions({ attempts: 3 }), { attempts: 3, backoff: { type: "fixed", delay: 0, jitter: 0 } });
});

test("backoff is a fixed time or a strategy, without jitter", () => {
    assert.deepEqual(toDroverOptions({ attempts: 3, backoff: 500 }).backoff, { type: "fixed", delay: 500, jitter: 0 });
    const exponential = toDroverOptions({ attempts: 3, backoff: { type: "exponential", delay: 100 } }).backoff;
    assert.deepEqual(exponential, { type: "exponential", delay: 100, jitter: 0, max: 2_592_000_000 });
});

test("delay, timeout and jobId keep their meaning", () => {
    const options = { delay: 1500, timeout: 2000, jobId: "a-1" };
    assert.deepEqual(toDroverOptions(options), { attempts: 1, ...options });
    assert.equal(toDroverOptions({ delay: -5 }).delay, 0);
    assert.throws(() => toDroverOptions({ delay: NaN, priority: -1 }), TypeError);
});

test("priority 1 comes first, and no priority last", () => {
    const inOrder = [1, 2, 3, 1000, 2_097_152].map(toDroverPriority);
    assert.deepEqual(
        inOrder,
        [...inOrder].sort((a, b) => a - b),
    );
    assert.ok(inOrder.every((priority) => priority < 0 && priority >= -2_097_152));
    assert.equal(toDroverPriority(Number.MAX_SAFE_INTEGER), -1);
    assert.equal(toDroverPriority(0), 0);
    assert.equal(fromDroverPriority(toDroverPriority(7)), 7);
    assert.equal(fromDroverPriority(0), undefined);
    assert.throws(() => toDroverPriority(-1), /the highest priority is 1/);
});

test("a jobId of digits has another form in Drover, and the same in the application", () => {
    assert.equal(toDroverId(42), "bull:42");
    assert.equal(fromDroverId("bull:42"), "42");
    assert.equal(toDroverId("order-42"), "order-42");
    assert.deepEqual(possibleIds(42), ["bull:42"]);
    assert.deepEqual(possibleIds("21759559372713"), ["21759559372713", "bull:21759559372713"]);
    assert.deepEqual(possibleIds("order-42"), ["order-42"]);
});

const REFUSED_JOB_OPTIONS: Array<[JobOptions & Record<string, unknown>, RegExp]> = [
    [{ lifo: true }, /opts\.lifo is not supported by Drover: use priority/],
    [{ debounce: { id: "a" } }, /opts\.debounce .* use jobId/],
    [{ deduplication: { id: "a" } }, /opts\.deduplication .* use jobId/],
    [{ preventParsingData: true }, /opts\.preventParsingData .* job\.data is always parsed/],
    [{ timestamp: 1 }, /opts\.timestamp .* into data/],
    [{ keepLogs: 1 }, /opts\.keepLogs .* job\.progress/],
    [{ sizeLimit: 1 }, /opts\.sizeLimit .* api\.body_limit/],
    [{ parent: {} }, /opts\.parent .* no flows/],
    [{ dealy: 1 }, /opts\.dealy .* leave|opts\.dealy .* into data/],
    [{ attempts: 2, backoff: { type: "mine" } }, /opts\.backoff\.type "mine" .* RetryLaterError/],
    [{ attempts: 2, backoff: { type: "fixed", options: {} } }, /opts\.backoff\.options .* RetryLaterError/],
];

for (const [options, text] of REFUSED_JOB_OPTIONS) {
    test(`the option ${JSON.stringify(options)} of a job is refused with advice`, async () => {
        const queue = new Queue("refused", NOWHERE);
        await assert.rejects(queue.add({}, options), (error: Error) => error instanceof UnsupportedError && text.test(error.message));
        await assert.rejects(queue.addBulk([{ data: {}, opts: options }]), text);
        assert.throws(() => new Queue("refused", { ...NOWHERE, defaultJobOptions: options }), text);
        await queue.close();
    });
}

test("options that ask for Drover's normal behaviour are accepted", () => {
    assert.deepEqual(toDroverOptions({ lifo: false, preventParsingData: false, stackTraceLimit: 5 }), { attempts: 1 });
});

const REFUSED_QUEUE_OPTIONS: Array<[Record<string, unknown>, RegExp]> = [
    [{ redis: { host: "a" } }, /redis is not supported by Drover: name Drover's API with url/],
    [{ createClient: () => {} }, /createClient .* url/],
    [{ prefix: "a" }, /prefix .* the queue's name/],
    [{ metrics: {} }, /metrics .* \/metrics/],
    [{ colour: "red" }, /colour .* leave it out/],
    [{ limiter: { max: 1, duration: 1, groupKey: "a" } }, /limiter\.groupKey .* opts\.group/],
    [{ limiter: { max: 1 } }, /limiter needs max, .* and duration/],
    [{ settings: { backoffStrategies: { mine: () => 1 } } }, /settings\.backoffStrategies\.mine .* RetryLaterError/],
    [{ url: "redis://127.0.0.1:6379" }, /url is not the address of Drover's API/],
];

for (const [options, text] of REFUSED_QUEUE_OPTIONS) {
    test(`the option ${Object.keys(options).join()} of a queue (${text.source.slice(0, 20)}) is refused with advice`, () => {
        assert.throws(() => new Queue("refused", options as QueueOptions), text);
    });
}

test("methods that Drover does not have say what to use", async () => {
    const queue = new Queue("refused", NOWHERE);
    assert.throws(() => queue.client, /queue\.client is not supported by Drover/);
    assert.throws(() => queue.multi(), /queue\.multi .* Redis/);
    await assert.rejects(queue.getNextJob(), /queue\.getNextJob .* queue\.process/);
    await assert.rejects(queue.getMetrics("completed"), /queue\.getMetrics .* \/metrics/);
    await assert.rejects(queue.getJobLogs(1), /queue\.getJobLogs .* job\.progress/);
    await assert.rejects(queue.getCountsPerPriority([1]), /queue\.getCountsPerPriority .* getWaiting/);
    await assert.rejects(queue.process("/a/file.js"), /a processor in a separate file .* give a function/);
    await queue.close();
});

test("the settings of a queue follow from limiter, settings and removeOn…", () => {
    assert.equal(settingsOf({}), undefined);
    assert.deepEqual(settingsOf({ limiter: { max: 5, duration: 1000, bounceBack: true } }), { rate_limit: { max: 5, duration: 1000 } });
    assert.deepEqual(settingsOf({ settings: { maxStalledCount: 1 } }), { max_lapses: 2 });
    assert.deepEqual(settingsOf({ defaultJobOptions: { removeOnComplete: true, removeOnFail: 100 } }), {
        retention: { completed: { count: 0 }, failed: { count: 100 } },
    });
    assert.deepEqual(settingsOf({ defaultJobOptions: { removeOnComplete: { age: 60, count: 7 }, removeOnFail: false } }), {
        retention: { completed: { age: 60_000, count: 7 } },
    });
});

test("a repetition is identified by name, jobId, end, zone and rule", () => {
    const name = scheduleName("report", { cron: "0 9 * * *", tz: "Europe/Berlin" });
    assert.match(name, /^report:[0-9a-f]{16}$/);
    assert.equal(scheduleName("report", { cron: "0 9 * * *", tz: "Europe/Berlin", limit: 3 }), name);
    const others = [
        scheduleName("other", { cron: "0 9 * * *", tz: "Europe/Berlin" }),
        scheduleName("report", { cron: "0 8 * * *", tz: "Europe/Berlin" }),
        scheduleName("report", { cron: "0 9 * * *" }),
        scheduleName("report", { cron: "0 9 * * *", tz: "Europe/Berlin", jobId: 1 }),
        scheduleName("report", { cron: "0 9 * * *", tz: "Europe/Berlin", endDate: "2030-01-01" }),
        scheduleName("report", { every: 1000 }),
    ];
    assert.equal(new Set([name, ...others]).size, 7);
    assert.match(scheduleName("__default__", { every: 1000 }), /^default__:[0-9a-f]{16}$/);
    assert.match(scheduleName("größe/π", { every: 1000 }), /^[A-Za-z0-9][A-Za-z0-9_.:-]*$/);
});

test("a cron pattern without a zone has the zone of the process, as in Bull", () => {
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    assert.deepEqual(toRule({ cron: "0 9 * * *" }), { pattern: "0 9 * * *", tz: timeZone });
    assert.deepEqual(toRule({ every: 5000, limit: 2, endDate: 0 }), { every: 5000, limit: 2, endDate: new Date(0) });
    assert.throws(() => toRule({ every: 1, cron: "* * * * *" } as never), /both cron and every/);
    assert.throws(() => toRule({} as never), /neither cron nor every/);
    assert.throws(() => toRule({ every: 1000, count: 1 }), /opts\.repeat\.count .* reduce limit/);
    assert.throws(() => toRule({ every: 1000, endDate: "never" }), /opts\.repeat\.endDate is no date/);
});
