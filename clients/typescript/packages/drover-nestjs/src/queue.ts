/** Bull's class `Queue`, on top of drover-client. */
import { captureRejectionSymbol } from "node:events";

import { DroverError, type Job as DroverJob, Queue as DroverQueue } from "drover-client";

import { EventStream, toGlobalEvent, type StreamedEvent } from "./global-events.js";
import { fromDroverId } from "./ids.js";
import { Job, toJob } from "./job.js";
import { toDroverOptions, toMessageOptions } from "./options.js";
import { type Handler, Processing } from "./processing.js";
import { QueueReader, withoutQueue } from "./queue-reading.js";
import { readRange, stateNames, type ListedState } from "./ranges.js";
import { DEFAULT_JOB_NAME, type Repeat, scheduleName, toHeaders, toRule } from "./repeat.js";
import { applySettings, checkQueueOptions, settingsOf } from "./settings.js";
import type * as Bull from "./types.js";
import { warnOnce } from "./warnings.js";

/** The number of jobs that `clean` and `removeJobs` remove at the same time. */
const CONCURRENT_REMOVALS = 20;

export class Queue<T = any> extends QueueReader<T> {
    readonly #options: Bull.QueueOptions;
    readonly #processing: Processing;
    readonly #closing = new AbortController();
    #stream: EventStream | undefined;
    #closed: Promise<void> | undefined;
    #hasBegun = false;

    constructor(name: string, options?: Bull.QueueOptions);
    constructor(name: string, url: string, options?: Bull.QueueOptions);
    constructor(name: string, urlOrOptions: string | Bull.QueueOptions = {}, more: Bull.QueueOptions = {}) {
        const options = typeof urlOrOptions === "string" ? { ...more, url: urlOrOptions } : urlOrOptions;
        checkQueueOptions(options);
        const { url, key, timeout, settings, closeTimeout, defaultJobOptions = {} } = options;
        toMessageOptions(defaultJobOptions);
        super(new DroverQueue<T>(name, { url, key, timeout }));
        this.#options = options;
        this.#processing = new Processing(this, { url, key, visibilityTimeout: settings?.lockDuration, closeTimeout });
        // The subclass for Nest calls `begin` only when its application has started.
        if (new.target === Queue) {
            this.begin();
        }
    }

    /** Sends the settings of the queue, then begins to process jobs. @internal */
    begin(): void {
        if (this.#hasBegun) {
            return;
        }
        this.#hasBegun = true;
        const { signal } = this.#closing;
        const patch = settingsOf(this.#options);
        const sent = patch ? applySettings(this.drover, patch, { signal, onError: (error) => this.emit("error", error) }) : undefined;
        if (sent) {
            void sent.then(() => this.#processing.start());
        } else {
            this.#processing.start();
        }
        this.#openStream();
    }

    /** Returns at once, because each request is repeated for a time while the API is not available. */
    async isReady(): Promise<this> {
        return this;
    }

    /** Adds a job to the queue. */
    add(data: T, opts?: Bull.JobOptions): Promise<Job<T>>;
    add(name: string, data: T, opts?: Bull.JobOptions): Promise<Job<T>>;
    async add(...args: [unknown, unknown?, Bull.JobOptions?]): Promise<Job<T>> {
        const [name, data, given] = typeof args[0] === "string" ? args : [DEFAULT_JOB_NAME, ...args];
        const opts = this.#withDefaults(given as Bull.JobOptions | undefined);
        if (opts.repeat) {
            return this.#repeat(name as string, data as T, opts, opts.repeat);
        }
        const job = await this.drover.add(toDroverName(name as string), toData(data as T), toDroverOptions(opts));
        return this.#added(job, opts);
    }

    /** Adds many jobs. Each request to the API has up to 1,000 jobs, of which all or none are stored. */
    async addBulk(jobs: Array<Bull.BulkJob<T>>): Promise<Array<Job<T>>> {
        const all = jobs.map(({ name, data, opts }) => ({ name: name ?? DEFAULT_JOB_NAME, data, opts: this.#withDefaults(opts) }));
        const added = await this.drover.addBulk(
            all.map(({ name, data, opts }) => ({ name: toDroverName(name), data: toData(data), opts: toDroverOptions(opts) })),
        );
        return added.map((job, index) => this.#added(job, all[index]?.opts ?? {}));
    }

    /** Processes the queue's jobs with a function. As in Bull, the concurrencies of several functions are added up. */
    process(callback: Bull.ProcessCallbackFunction<T>): Promise<void>;
    process(callback: Bull.ProcessPromiseFunction<T>): Promise<void>;
    process(callback: string): Promise<void>;
    process(concurrency: number, callback: Bull.ProcessCallbackFunction<T>): Promise<void>;
    process(concurrency: number, callback: Bull.ProcessPromiseFunction<T>): Promise<void>;
    process(concurrency: number, callback: string): Promise<void>;
    process(name: string, callback: Bull.ProcessCallbackFunction<T>): Promise<void>;
    process(name: string, callback: Bull.ProcessPromiseFunction<T>): Promise<void>;
    process(name: string, callback: string): Promise<void>;
    process(name: string, concurrency: number, callback: Bull.ProcessCallbackFunction<T>): Promise<void>;
    process(name: string, concurrency: number, callback: Bull.ProcessPromiseFunction<T>): Promise<void>;
    process(name: string, concurrency: number, callback: string): Promise<void>;
    async process(...args: unknown[]): Promise<void> {
        const handler = args.pop() as Handler | string;
        const name = args.find((argument) => typeof argument === "string") as string | undefined;
        const concurrency = args.find((argument) => typeof argument === "number") as number | undefined;
        this.processNamed(name, concurrency, handler);
    }

    /** Adds a handler for jobs of one name. @internal */
    processNamed(name: string | undefined, concurrency: number | undefined, handler: Handler | string): void {
        this.#processing.add(name ?? DEFAULT_JOB_NAME, concurrency ?? 1, handler);
    }

    /**
     * Stops the processing of jobs in all processes. If `isLocal` is true, stops the processing only in this process, and waits for this
     * process's handlers unless `doNotWaitActive` is true.
     */
    async pause(isLocal?: boolean, doNotWaitActive?: boolean): Promise<void> {
        if (!isLocal) {
            await this.drover.pause();
        } else {
            this.#processing.pause();
            if (!doNotWaitActive) {
                await this.whenCurrentJobsFinished();
            }
        }
        this.emit("paused");
    }

    async resume(isLocal?: boolean): Promise<void> {
        if (isLocal) {
            this.#processing.resume();
        } else {
            await this.drover.resume();
        }
        this.emit("resumed");
    }

    async isPaused(isLocal?: boolean): Promise<boolean> {
        return isLocal ? this.#processing.isPaused : this.drover.isPaused();
    }

    /** Waits until no handler of this queue runs in this process. */
    whenCurrentJobsFinished(): Promise<void> {
        return this.#processing.idle();
    }

    /** Deletes all waiting and delayed jobs. */
    async empty(): Promise<void> {
        await this.drover.purge("waiting");
        await this.drover.purge("delayed");
    }

    /** Deletes the jobs of a state that are older than `grace` milliseconds, and returns their ids. */
    async clean(grace: number, status: Bull.JobStatusClean = "completed", limit = 0): Promise<any[]> {
        const [state] = stateNames([status]);
        if (state === undefined || state === "active") {
            throw new TypeError("clean: active jobs cannot be removed: clean completed, wait, delayed, paused or failed jobs");
        }
        if (!Number.isFinite(grace)) {
            throw new TypeError("clean: the first argument is the grace period, in milliseconds");
        }
        const listed: ListedState = state === "wait" || state === "paused" ? "waiting" : state;
        const jobs = await readRange(this.drover, listed, { asc: true });
        const latest = Date.now() - grace;
        const old = jobs.filter((job) => (job.finishedOn ?? job.processedOn ?? job.timestamp) <= latest);
        const removed = await this.#remove(limit > 0 ? old.slice(0, limit) : old);
        this.emit("cleaned", removed, status);
        return removed;
    }

    /** Deletes the jobs whose ids match a pattern with the wildcards `*`, `?` and `[…]`. Active jobs are not deleted. */
    async removeJobs(pattern: string): Promise<void> {
        const expression = globToRegExp(pattern);
        for (const state of ["waiting", "delayed", "completed", "failed"] as const) {
            const jobs = await readRange(this.drover, state, { asc: true });
            const removed = await this.#remove(jobs.filter(({ id }) => expression.test(fromDroverId(id))));
            removed.forEach((id) => this.emit("removed", id));
        }
    }

    /** Makes all failed jobs ready again. */
    async retryJobs(): Promise<void> {
        await this.drover.retryJobs();
    }

    /** Deletes the queue with all jobs, repetitions and settings. */
    async obliterate({ force = false }: { force?: boolean } = {}): Promise<void> {
        if (!force && (await this.getActiveCount()) > 0) {
            throw new Error(`the queue ${this.name} has active jobs: wait for them, or call obliterate({ force: true })`);
        }
        await withoutQueue(() => this.drover.delete({ confirm: this.name }), undefined);
    }

    /** Ends a repetition. The name and the options must be those with which the repetition was added. */
    removeRepeatable(repeat: Repeat): Promise<void>;
    removeRepeatable(name: string, repeat: Repeat): Promise<void>;
    async removeRepeatable(...args: [Repeat] | [string, Repeat]): Promise<void> {
        const [name, repeat] = args.length === 1 ? [DEFAULT_JOB_NAME, args[0]] : args;
        await this.drover.removeJobScheduler(scheduleName(name, repeat));
    }

    async removeRepeatableByKey(key: string): Promise<void> {
        await this.drover.removeJobScheduler(key);
    }

    /** Waits for the handlers of this process, and closes the connections. */
    close(doNotWaitJobs = false): Promise<void> {
        this.#closed ??= this.#close(doNotWaitJobs);
        return this.#closed;
    }

    /** Stops leasing and waits for the handlers, so that the queue only adds jobs from then on. @internal */
    async closeProcessing(force = false): Promise<void> {
        await this.#processing.close({ force });
    }

    async #close(force: boolean): Promise<void> {
        this.#closing.abort();
        await this.closeProcessing(force);
        await this.#stream?.stop();
        await this.drover.close();
        this.emit("close");
    }

    override on(event: "error", callback: Bull.ErrorEventCallback): this;
    override on(event: "waiting", callback: Bull.WaitingEventCallback): this;
    override on(event: "active", callback: Bull.ActiveEventCallback<T>): this;
    override on(event: "stalled", callback: Bull.StalledEventCallback<T>): this;
    override on(event: "progress", callback: Bull.ProgressEventCallback<T>): this;
    override on(event: "completed", callback: Bull.CompletedEventCallback<T>): this;
    override on(event: "failed", callback: Bull.FailedEventCallback<T>): this;
    override on(event: "paused" | "resumed" | "drained", callback: Bull.EventCallback): this;
    override on(event: "removed", callback: Bull.RemovedEventCallback<T>): this;
    override on(event: "cleaned", callback: Bull.CleanedEventCallback<T>): this;
    override on(event: string, callback: (...args: any[]) => void): this;
    override on(event: string, callback: (...args: any[]) => void): this {
        super.on(event, callback);
        this.#openStream();
        return this;
    }

    override once(event: string, callback: (...args: any[]) => void): this {
        super.once(event, callback);
        this.#openStream();
        return this;
    }

    /** Emits an event. Neither an error of a listener nor an `error` event without a listener ends the process. */
    override emit(event: string, ...args: any[]): boolean {
        if (event === "error" && this.listenerCount("error") === 0) {
            warnOnce(`${this.name}: ${(args[0] as Error).message}`, `queue ${this.name}: ${(args[0] as Error).message}`);
            return false;
        }
        try {
            return super.emit(event, ...args);
        } catch (error) {
            return event === "error" ? true : this.emit("error", error);
        }
    }

    /** Opens the API's event stream if the queue has listeners to events of all processes (`global:…`). */
    #openStream(): void {
        const isWanted = this.eventNames().some((name) => String(name).startsWith("global:"));
        if (!this.#hasBegun || !isWanted || this.#stream || this.#closing.signal.aborted) {
            return;
        }
        this.#stream = new EventStream({
            url: `${this.drover.url}/v1/queues/${encodeURIComponent(this.name)}/events`,
            key: this.#options.key ?? process.env["DROVER_KEY"],
            onEvent: (event) => this.#emitGlobal(event),
            // The API creates a queue only for a change that names a setting, so this request names `retention` without changing it.
            onMissing: async () => void (await this.drover.updateSettings({ retention: {} })),
            onError: (error) => this.emit("error", error),
        });
    }

    async #emitGlobal(streamed: StreamedEvent): Promise<void> {
        const event = toGlobalEvent(streamed);
        if (!event || this.listenerCount(event.name) === 0) {
            return;
        }
        if (event.name !== "global:completed") {
            this.emit(event.name, ...event.args);
            return;
        }
        // As in Bull, the event has the result of the job as JSON text.
        const job = await this.drover.getJob(streamed.data.id).catch(() => undefined);
        this.emit(event.name, ...event.args, JSON.stringify(job?.returnvalue ?? null), "active");
    }

    #withDefaults(opts: Bull.JobOptions | undefined): Bull.JobOptions {
        for (const option of ["removeOnComplete", "removeOnFail"] as const) {
            if (opts?.[option] !== undefined && opts[option] !== false) {
                const text = `opts.${option} of one job has no effect: set ${option} in the queue's defaultJobOptions`;
                warnOnce(option, text);
            }
        }
        return { ...this.#options.defaultJobOptions, ...opts };
    }

    #added(job: DroverJob<T>, opts: Bull.JobOptions): Job<T> {
        const added = toJob(this, job, { ...opts, attempts: opts.attempts ?? 1 });
        if (!job.duplicate && job.state === "waiting") {
            this.emit("waiting", String(added.id), null);
        }
        return added;
    }

    async #repeat(name: string, data: T, opts: Bull.JobOptions, given: Repeat): Promise<Job<T>> {
        const repeat = opts.jobId === undefined ? given : { ...given, jobId: opts.jobId };
        const { headers, ...options } = toMessageOptions(opts);
        const key = scheduleName(name, repeat);
        const template = { name: toDroverName(name), data: toData(data), opts: { ...options, headers: toHeaders(repeat.jobId, headers) } };
        const schedule = await this.drover.upsertJobScheduler(key, toRule(repeat), template).catch((error: unknown) => {
            if (error instanceof DroverError && error.errors[0]?.pointer === "/end_at") {
                return undefined;
            }
            throw error;
        });
        const timestamp = Date.now();
        const next = schedule?.next;
        if (next === undefined) {
            // As in Bull, `add` returns no job if the repetition has no next job.
            return undefined as never;
        }
        const delay = Math.max(0, next - timestamp);
        return new Job<T>(this, {
            ...{ name, data, delay, timestamp, progress: 0, attemptsMade: 0, returnvalue: null },
            ...{ failedReason: undefined, processedOn: undefined, finishedOn: undefined },
            id: `repeat:${key}:${next}`,
            opts: { ...opts, attempts: opts.attempts ?? 1, delay, repeat: { ...given, key } as never },
        });
    }

    async #remove(jobs: ReadonlyArray<DroverJob<T>>): Promise<string[]> {
        const removed: string[] = [];
        for (let start = 0; start < jobs.length; start += CONCURRENT_REMOVALS) {
            const part = jobs.slice(start, start + CONCURRENT_REMOVALS);
            const results = await Promise.allSettled(part.map((job) => job.remove()));
            part.forEach((job, index) => {
                if (results[index]?.status === "fulfilled") {
                    removed.push(fromDroverId(job.id));
                }
            });
        }
        return removed;
    }
}

// Node calls the method `captureRejectionSymbol` when the promise of a listener is rejected.
Object.defineProperty(Queue.prototype, captureRejectionSymbol, {
    value(this: Queue, error: Error, event: string): void {
        if (event === "error") {
            warnOnce(`${this.name}: ${error.message}`, `queue ${this.name}: a listener of errors failed: ${error.message}`);
        } else {
            this.emit("error", error);
        }
    },
});

/** Converts a name of Bull's to a name of Drover: a job that is named `__default__` in Bull has no name in Drover. */
function toDroverName(name: string): string {
    return name === DEFAULT_JOB_NAME ? "" : name;
}

/** Returns the data of a job: as in Bull, absent data becomes an empty object. */
function toData<T>(data: T): T {
    return data ?? ({} as T);
}

function globToRegExp(pattern: string): RegExp {
    const source = pattern.replace(/[.+^${}()|\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".").replace(/\[!/g, "[^");
    return new RegExp(`^${source}$`, "s");
}
