#!/usr/bin/env node
// Moves the delayed jobs, and on request the repeatable jobs, of one queue of Bull 4 or BullMQ 6 to a queue of Drover.
//
// Each delayed job is moved in three steps, so that it runs once, in Bull or in Drover:
//   1. The script moves the job's id from Bull's sorted set `delayed` to a sorted set `moving-to-drover`, in one step of Redis.
//      Bull's workers do not start a job whose id is in `moving-to-drover`.
//   2. The script posts the job to Drover, with an id made from Bull's id. A repeated post with the same id stores nothing.
//   3. The script removes the job from Bull.
// After an interruption, the user calls the script again, and the script begins with the jobs in `moving-to-drover`. The script
// returns a job that Drover refuses to `delayed`, and reports the reason.

import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const USAGE = `node move-from-bull.mjs --queue NAME [options], in the folder of the application with bull or bullmq

  --library bull|bullmq  needed if both are installed
  --redis URL            Bull's Redis, default redis://127.0.0.1:6379
  --prefix TEXT          Bull's prefix of keys, default bull
  --drover URL           default $DROVER_URL or http://127.0.0.1:8080; the key is $DROVER_KEY
  --to NAME              Drover's queue, default: the same name
  --schedules            also moves repeatable jobs (Bull) or job schedulers (BullMQ)
  --dry-run              prints what would be posted, and changes nothing`;

/** The number of jobs that the script moves at a time. */
const CONCURRENT_MOVES = 20;
/** The time (ms) for which the script repeats a request while Drover is not available. */
const REPEAT_LIMIT = 60_000;
/** The script does not move a repeatable job that runs within this time (ms), or within half of its interval if that is shorter. */
const SCHEDULE_MARGIN = 10_000;
/** In Bull's sorted set `delayed`, the score of a job is its due time (ms) times `SCORES_PER_MS`, plus a sequence number. */
const SCORES_PER_MS = 4096;

const CLAIM_SCRIPT = `
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score then return 0 end
redis.call('ZADD', KEYS[2], score, ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])`;

const { values: commandLine } = parseArgs({
    options: {
        queue: { type: 'string' },
        library: { type: 'string' },
        redis: { type: 'string', default: 'redis://127.0.0.1:6379' },
        prefix: { type: 'string', default: 'bull' },
        drover: { type: 'string', default: process.env.DROVER_URL ?? 'http://127.0.0.1:8080' },
        to: { type: 'string' },
        schedules: { type: 'boolean', default: false },
        'dry-run': { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
    },
});
if (commandLine.help || !commandLine.queue) {
    console.error(USAGE);
    process.exit(commandLine.help ? 0 : 2);
}
const isTrial = commandLine['dry-run'];

// The script loads Bull or BullMQ from the application's folder, not from the folder of the script.
const require = createRequire(pathToFileURL(join(process.cwd(), 'package.json')));
const installed = (commandLine.library ? [commandLine.library] : ['bull', 'bullmq']).filter(isInstalled);
if (installed.length !== 1) {
    console.error('Start the script in the folder of an application with bull or bullmq; with both, give --library.');
    process.exit(2);
}
const [library] = installed;
const isBullMq = library === 'bullmq';
// The script reads Bull's sets with the library ioredis, on which Bull and BullMQ depend.
const Redis = createRequire(require.resolve(library))('ioredis');
const redis = new Redis(commandLine.redis, { maxRetriesPerRequest: null });
const queue = isBullMq
    ? new (require('bullmq').Queue)(commandLine.queue, { connection: redis, prefix: commandLine.prefix, skipMetasUpdate: true })
    : new (require('bull'))(commandLine.queue, commandLine.redis, { prefix: commandLine.prefix });
queue.on('error', (error) => console.error(error.message));
const delayed = queue.toKey('delayed');
const moving = queue.toKey('moving-to-drover');
const target = `${commandLine.drover.replace(/\/$/, '')}/v1/queues/${commandLine.to ?? commandLine.queue}`;
const counts = { moved: 0, schedules: 0, left: 0 };

function isInstalled(name) {
    try {
        return Boolean(require.resolve(name));
    } catch {
        return false;
    }
}

function leaveInBull(what, reason) {
    counts.left += 1;
    console.error(`${what} stays in Bull: ${reason}`);
}

/** Drover's refusal of a request, which a repeated request would get again. */
class Refused extends Error {}

/** Sends a request again and again until Drover answers with a status other than 503 and 429. */
async function request(method, path, body) {
    const headers = { 'content-type': 'application/json' };
    if (process.env.DROVER_KEY) headers.authorization = `Bearer ${process.env.DROVER_KEY}`;
    for (const start = Date.now(), pause = 500; ; await sleep(pause)) {
        let problem;
        try {
            const signal = AbortSignal.timeout(10_000);
            const answer = await fetch(target + path, { method, headers, body: JSON.stringify(body), signal });
            if (answer.ok) return await answer.json();
            problem = `${answer.status} ${(await answer.json().catch(() => ({}))).detail ?? ''}`;
            if (answer.status !== 503 && answer.status !== 429) throw new Refused(problem);
        } catch (error) {
            if (error instanceof Refused) throw error;
            problem ??= error.cause?.message ?? error.message;
        }
        if (Date.now() - start > REPEAT_LIMIT) throw new Error(`Drover does not answer: ${problem}`);
    }
}

/** Returns the fields that a posted message and the message of a schedule have in common. */
function messageOf(name, data, opts, attemptsMade) {
    const attempts = Math.max(1, (opts.attempts ?? 1) - attemptsMade);
    const message = { data: data ?? null, max_attempts: attempts };
    if (name && name !== '__default__') message.name = name;
    // Bull starts jobs without a priority last, but BullMQ starts jobs without a priority first.
    if (opts.priority) message.priority = isBullMq ? opts.priority : Math.min(opts.priority, 2_097_152) - 2_097_153;
    if (opts.timeout) message.timeout = opts.timeout;
    const backoff = typeof opts.backoff === 'object' ? opts.backoff : { type: 'fixed', delay: opts.backoff ?? 0 };
    // Any other type of back-off names a function of the application, so the back-off in the settings of Drover's queue applies instead.
    if (attempts > 1 && (backoff?.type === 'fixed' || backoff?.type === 'exponential')) {
        message.backoff = { type: backoff.type, delay: backoff.delay ?? 0, jitter: backoff.jitter ?? 0, max: '30d' };
    }
    return message;
}

/** Returns the id that a job of Bull gets in Drover. A number gets a prefix, by which drover-nestjs finds the job. */
function idOf(job) {
    const id = String(job.id);
    return /^\d+$/.test(id) ? `bull:${id}` : id.replaceAll('/', '%2F');
}

function isRepeatable(job) {
    return Boolean(job.repeatJobKey ?? job.opts.repeat);
}

/** Returns whether a job belongs to a flow of BullMQ: the job has a parent, or has or had children. */
async function isInFlow(job) {
    if (!isBullMq) return false;
    const childKeys = ['dependencies', 'processed', 'failed', 'unsuccessful'].map((part) => `${queue.toKey(job.id)}:${part}`);
    return Boolean(job.parentKey) || (await redis.exists(childKeys)) > 0;
}

async function moveJob(id) {
    const score = (await redis.zscore(moving, id)) ?? (await redis.zscore(delayed, id));
    const job = score && (await queue.getJob(id));
    if (!job) {
        // Bull has no such job any more: the job ended meanwhile, or an interrupted call of the script removed the job.
        if (!isTrial) await redis.zrem(moving, id);
        return;
    }
    if (isRepeatable(job)) return;
    if (await isInFlow(job)) return leaveInBull(`job ${id}`, 'it belongs to a flow');
    const due = new Date(Math.floor(score / SCORES_PER_MS)).toISOString();
    const message = { id: idOf(job), deliver_at: due, ...messageOf(job.name, job.data, job.opts, job.attemptsMade) };
    if (isTrial) return console.log('message', JSON.stringify(message));
    const isClaimed = (await redis.zscore(moving, id)) !== null || (await redis.eval(CLAIM_SCRIPT, 2, delayed, moving, id)) === 1;
    if (!isClaimed) return;
    try {
        await request('POST', '/messages', message);
    } catch (error) {
        if (!(error instanceof Refused)) throw error;
        await redis.multi().zadd(delayed, score, id).zrem(moving, id).exec();
        return leaveInBull(`job ${id}`, error.message);
    }
    await job.remove();
    await redis.zrem(moving, id);
    counts.moved += 1;
}

async function moveJobs(ids) {
    const rest = ids[Symbol.iterator]();
    const move = async () => {
        for (const id of rest) await moveJob(id);
    };
    await Promise.all(Array.from({ length: CONCURRENT_MOVES }, move));
}

/** Returns the name that drover-nestjs gives to the schedule of a repeatable job, so that the application finds the schedule. */
function scheduleName(name, { jobId = '', endDate, tz = '', cron = '', every = '' }) {
    const end = endDate === undefined ? '' : new Date(endDate).getTime();
    const parts = JSON.stringify([name, String(jobId), end, tz, cron, every]);
    const start = name.replace(/[^A-Za-z0-9_.-]/g, '_').replace(/^[^A-Za-z0-9]+/, '').slice(0, 80);
    return `${start || 'default'}:${createHash('sha256').update(parts).digest('hex').slice(0, 16)}`;
}

/** Returns Bull's repeatable jobs, or BullMQ's job schedulers, in one form. */
async function repeatables(delayedIds) {
    if (isBullMq) {
        return (await queue.getJobSchedulers(0, -1)).map((scheduler) => ({
            ...scheduler,
            schedule: scheduler.key.replace(/[^A-Za-z0-9_.:-]/g, '_'),
            runs: scheduler.limit && scheduler.limit - (scheduler.iterationCount ?? 0) + 1,
            data: scheduler.template?.data,
            opts: scheduler.template?.opts ?? {},
            remove: () => queue.removeJobScheduler(scheduler.key),
        }));
    }
    // Bull stores the data of a repeatable job only in the next job of the repetition.
    const jobs = await Promise.all(delayedIds.map((id) => queue.getJob(id)));
    const byKey = new Map(jobs.filter((job) => job?.opts.repeat).map((job) => [job.opts.repeat.key, job]));
    return (await queue.getRepeatableJobs()).map(({ key, name, next }) => {
        const job = byKey.get(key);
        const repeat = job?.opts.repeat ?? {};
        const { cron, every, tz, startDate, endDate, limit, count } = repeat;
        return {
            key,
            name,
            next: job && next,
            pattern: cron,
            ...{ every, tz, startDate, endDate },
            schedule: scheduleName(name, repeat),
            runs: limit && limit - count + 1,
            data: job?.data,
            opts: job?.opts,
            remove: () => queue.removeRepeatableByKey(key),
        };
    });
}

async function moveSchedule(repeatable) {
    const { key, name, next, pattern, every, tz, startDate, endDate, runs, data, opts, schedule, remove } = repeatable;
    const margin = Math.min(SCHEDULE_MARGIN, (every ?? Infinity) / 2);
    // If a repeatable job became due during its move, Bull and Drover could both run the job.
    if (!next || next < Date.now() + margin) return leaveInBull(`schedule ${key}`, 'it runs soon: call the script again');
    const body = { message: messageOf(name, data, opts, 0) };
    if (pattern) {
        body.cron = pattern;
        // If a schedule has no time zone, Bull uses the time zone of its process, and Drover uses UTC.
        body.timezone = tz ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
    } else {
        body.every = Number(every);
        body.offset = next % body.every;
    }
    if (startDate) body.start_at = new Date(startDate).toISOString();
    if (endDate) body.end_at = new Date(endDate).toISOString();
    if (runs) body.max_runs = runs;
    if (isTrial) return console.log('schedule', schedule, JSON.stringify(body));
    try {
        const answer = await request('PUT', `/schedules/${schedule}`, body);
        console.log(`schedule ${schedule}: next at ${answer.next_at[0]}`);
    } catch (error) {
        if (!(error instanceof Refused)) throw error;
        return leaveInBull(`schedule ${key}`, error.message);
    }
    await remove();
    counts.schedules += 1;
}

try {
    const ids = await redis.zrange(delayed, 0, -1);
    await moveJobs([...(await redis.zrange(moving, 0, -1)), ...ids]);
    const all = await repeatables(ids);
    if (commandLine.schedules) for (const repeatable of all) await moveSchedule(repeatable);
    else for (const { key } of all) leaveInBull(`schedule ${key}`, 'give --schedules to move it');
    console.log(`moved ${counts.moved} jobs and ${counts.schedules} schedules; ${counts.left} stay in Bull`);
} catch (error) {
    console.error(`${error.message}\nThe move is not complete: call the script again.`);
    process.exitCode = 1;
} finally {
    await queue.close();
    redis.disconnect();
}
