// A queue of Bull 4 or BullMQ 6 with one interface for the tests of move-from-bull.mjs, and a real Drover on the same Redis.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

import { Worker } from "drover-client";
import { Proxy, Service, until, within } from "../packages/drover-client/build/harness.js";

const require = createRequire(import.meta.url);
const MOVE_SCRIPT = fileURLToPath(new URL("../move-from-bull.mjs", import.meta.url));

// The script move-from-bull.mjs loads the libraries from the folder in which it is started.
process.chdir(fileURLToPath(new URL("..", import.meta.url)));

/** The number of jobs that a worker runs at a time. */
const CONCURRENCY = 20;

export class OldSystem {
    /** All runs of jobs. `where` is `old` for a run in the old library, and `drover` for a run in Drover. */
    runs = [];
    #closers = [];

    /** Opens the queue `name` of the library `bull` or `bullmq` in the Redis of Drover, and starts a proxy in front of Drover's API. */
    static async open(library, name, drover) {
        const system = new OldSystem();
        Object.assign(system, { library, name, drover });
        const { port } = new URL(drover.redisUrl);
        system.connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
        const Redis = createRequire(require.resolve("bull"))("ioredis");
        system.redis = new Redis(system.connection);
        system.#closers.push(() => system.redis.disconnect());
        system.queue =
            library === "bull"
                ? new (require("bull"))(name, drover.redisUrl)
                : new (require("bullmq").Queue)(name, { connection: system.connection });
        system.#closers.unshift(() => system.queue.close());
        system.proxy = await Proxy.start(drover.url);
        return system;
    }

    /** Adds jobs with the due times `dues` and with `{ i, due }` as data. Every third job has an id that the test chooses. */
    async addDelayed(dues, from = 0) {
        const timestamp = Date.now();
        const jobs = dues.map((due, index) => {
            const i = from + index;
            const opts = { timestamp, delay: due - timestamp, ...(i % 3 === 0 ? { jobId: `own/${i}` } : {}) };
            return { name: "mail", data: { i, due }, opts };
        });
        return this.queue.addBulk(jobs);
    }

    /** Starts a worker of the old library. */
    async workInOld() {
        const handler = async (job) => this.#ran(job.data, "old");
        if (this.library === "bull") {
            void this.queue.process("*", CONCURRENCY, handler);
            await this.queue.isReady();
        } else {
            const worker = new (require("bullmq").Worker)(this.name, handler, { connection: this.connection, concurrency: CONCURRENCY });
            this.#closers.unshift(() => worker.close());
            await worker.waitUntilReady();
        }
    }

    /** Starts a worker of Drover. */
    workInDrover() {
        const handler = async (job) => this.#ran(job.data, "drover");
        const worker = new Worker(this.name, handler, { url: this.drover.url, concurrency: CONCURRENCY });
        this.#closers.unshift(() => worker.close());
    }

    #ran({ i, due }, where) {
        this.runs.push({ i, where, early: due - Date.now() });
    }

    count(where) {
        return this.runs.filter((run) => run.where === where).length;
    }

    hasRun(i) {
        return this.runs.some((run) => run.i === i);
    }

    /** Waits until all jobs have run, except this number of delayed jobs in Drover. */
    async untilOnlyDelayed(count) {
        await until(`all jobs but ${count} have run`, async () => {
            const old = await this.queue.getJobCounts();
            const { counts } = await this.drover.raw("GET", `/v1/queues/${this.name}`);
            const isEnded = old.waiting + old.active + old.delayed + counts.waiting + counts.active === 0;
            return isEnded && counts.delayed === count;
        });
    }

    /** Asserts that each of the jobs 0 to `total` − 1 ran exactly once, and that no job ran before its due time. */
    assertEachRanOnce(total) {
        assert.deepEqual(this.runs.map(({ i }) => i).sort((a, b) => a - b), Array.from({ length: total }, (_, i) => i));
        assert.deepEqual(this.runs.filter(({ early }) => early > 0), []);
    }

    /** Starts the script move-from-bull.mjs. `url` is the address of the API or of the proxy in front of the API. */
    startScript({ url = this.proxy.url, options = [] } = {}) {
        const names = ["--queue", this.name, "--library", this.library, "--redis", this.drover.redisUrl, "--drover", url];
        const script = new Service(process.execPath, [MOVE_SCRIPT, ...names, ...options]);
        script.start();
        this.#closers.unshift(() => script.end());
        return script;
    }

    /** Runs the script move-from-bull.mjs to its end, and returns the output of the script. */
    async runScript(given) {
        return this.end(this.startScript(given));
    }

    /** Waits until the script ends with success, and returns the output of the script. */
    async end(script) {
        await until("the script has ended", () => !script.runs, 60_000);
        assert.equal(script.exitCode, 0, script.output);
        return script.output;
    }

    /**
     * Starts the script, and kills the script with SIGKILL when it sends its `count`-th request. If `isStored` is true, the script is
     * killed only after Drover has carried out the script's `count`-th request. Returns the body of the request.
     */
    async killScriptAtRequest(count, isStored, options = []) {
        let seen = 0;
        const script = this.startScript({ options });
        const hit = new Promise((resolve) => {
            this.proxy.decide = async ({ method, path, body }) => {
                seen += 1;
                if (seen < count) return "pass";
                if (seen === count) {
                    if (isStored) await this.drover.raw(method, path, JSON.parse(body));
                    await script.end("SIGKILL");
                    resolve(JSON.parse(body));
                }
                return "refuse";
            };
        });
        const body = await within("the script sends requests", hit, 60_000);
        this.proxy.decide = () => "pass";
        return body;
    }

    /** Returns the ids in a sorted set of the old queue, with their scores. */
    async set(name) {
        const flat = await this.redis.zrange(this.queue.toKey(name), 0, -1, "WITHSCORES");
        return new Map(flat.flatMap((id, index) => (index % 2 === 0 ? [[id, flat[index + 1]]] : [])));
    }

    /** Returns the due times of the jobs in a sorted set of the old queue. */
    dueTimes(set) {
        return [...set.values()].map((score) => Math.floor(score / 4096));
    }

    /** Returns a dump of all keys of the old queue, and the names of the keys that Drover has for the queue of the same name. */
    async snapshot() {
        const keys = (await this.redis.keys("*")).filter((key) => key.includes(this.name)).sort();
        return Object.fromEntries(await Promise.all(keys.map(async (key) => [key, (await this.redis.dumpBuffer(key))?.toString("hex")])));
    }

    async messages() {
        return [...(await this.drover.messages(this.name)).values()];
    }

    async schedules() {
        return (await this.drover.raw("GET", `/v1/queues/${this.name}/schedules?limit=100`)).schedules;
    }

    /** Returns the next runs of the old queue's repeatable jobs (Bull) or job schedulers (BullMQ), by their keys. */
    async oldSchedules() {
        const all = this.library === "bull" ? await this.queue.getRepeatableJobs() : await this.queue.getJobSchedulers(0, -1);
        return new Map(all.map(({ key, next }) => [key, next]));
    }

    /** Adds a repeatable job (Bull) or a job scheduler (BullMQ) to the old queue. */
    async addSchedule(name, data, { pattern, ...repeat }, opts = {}) {
        if (this.library === "bull") {
            await this.queue.add(name, data, { ...opts, repeat: { ...repeat, ...(pattern ? { cron: pattern } : {}) } });
        } else {
            await this.queue.upsertJobScheduler(name, { ...repeat, ...(pattern ? { pattern } : {}) }, { name, data, opts });
        }
    }

    async close() {
        for (const close of this.#closers) await close();
    }
}
