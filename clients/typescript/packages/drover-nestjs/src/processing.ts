/**
 * Runs the handlers of a queue in this process: chooses the handler by the job's name, and limits the number of handlers that run at once.
 */
import { type Job as DroverJob, Worker } from "drover-client";

import { failedAttemptsOf, type Job, toJob } from "./job.js";
import type { Queue } from "./queue.js";
import { DEFAULT_JOB_NAME } from "./repeat.js";
import type { DoneCallback } from "./types.js";
import { UnsupportedError } from "./unsupported.js";

/** A function that processes jobs, and returns a promise or calls Bull's callback. */
export type Handler = (job: any, done: DoneCallback) => unknown;

export interface WorkerSettings {
    url: string | undefined;
    key: string | undefined;
    visibilityTimeout: number | undefined;
    closeTimeout: number | undefined;
}

/** The name under which a handler gets the jobs of all names that have no handler of their own. */
const ANY_NAME = "*";

/** The error for a job whose name has no handler in this process. */
export class NoHandlerError extends Error {
    override readonly name: string = "NoHandlerError";
    readonly code = "no_handler";

    constructor(name: string) {
        const how = name === DEFAULT_JOB_NAME ? "@Process()" : `@Process(${JSON.stringify(name)})`;
        super(`Missing process handler for job type ${name}: add a method with ${how} or @Process("*"), or add the job with another name`);
    }
}

export class Processing {
    readonly #queue: Queue;
    readonly #settings: WorkerSettings;
    readonly #handlers = new Map<string, (job: Job) => Promise<unknown>>();
    readonly #jobs = new WeakMap<DroverJob<any>, Job>();
    #concurrency = 0;
    #worker: Worker<any, any> | undefined;
    #isStarted = false;
    #isPaused = false;
    #isClosed = false;
    #running = 0;
    #waiting: Array<() => void> = [];
    /** Whether the event `drained` was emitted since the last job began. */
    #isDrained = true;

    constructor(queue: Queue, settings: WorkerSettings) {
        this.#queue = queue;
        this.#settings = settings;
    }

    /**
     * Adds a handler. As in Bull, the concurrencies of all handlers of a queue are added up, and each handler may use the whole sum. While
     * the sum is 0, no job is leased.
     */
    add(name: string, concurrency: number, handler: Handler | string): void {
        if (typeof handler === "string") {
            throw new UnsupportedError("a processor in a separate file", "give a function, and start more processes of the application");
        }
        if (typeof handler !== "function") {
            throw new TypeError(`the handler for jobs named ${name} is not a function`);
        }
        if (!Number.isInteger(concurrency) || concurrency < 0) {
            throw new TypeError(`the concurrency of jobs named ${name} is ${concurrency}: give a whole number from 0`);
        }
        if (this.#handlers.has(name)) {
            throw new Error(`the queue ${this.#queue.name} has two handlers for jobs named ${name}: remove one, or give it another name`);
        }
        this.#handlers.set(name, toPromise(handler));
        this.#concurrency += concurrency;
        if (this.#worker) {
            this.#worker.concurrency = this.#concurrency;
        } else {
            this.#begin();
        }
    }

    /** Begins to lease jobs as soon as the queue has a handler. */
    start(): void {
        this.#isStarted = true;
        this.#begin();
    }

    pause(): void {
        this.#isPaused = true;
        void this.#worker?.pause(true);
    }

    resume(): void {
        this.#isPaused = false;
        this.#worker?.resume();
    }

    get isPaused(): boolean {
        return this.#isPaused;
    }

    /** Waits until no handler runs. */
    async idle(): Promise<void> {
        if (this.#running > 0) {
            await new Promise<void>((resolve) => this.#waiting.push(resolve));
        }
    }

    async close(options: { force: boolean }): Promise<void> {
        this.#isClosed = true;
        await this.#worker?.close(options);
    }

    #begin(): void {
        if (!this.#isStarted || this.#isClosed || this.#worker || this.#concurrency === 0) {
            return;
        }
        const { url, key, visibilityTimeout, closeTimeout } = this.#settings;
        const worker = new Worker<any, any>(this.#queue.name, (source, signal) => this.#run(source, signal), {
            concurrency: this.#concurrency,
            ...(url === undefined ? {} : { url }),
            ...(key === undefined ? {} : { key }),
            ...(visibilityTimeout === undefined ? {} : { visibilityTimeout }),
            ...(closeTimeout === undefined ? {} : { closeTimeout }),
        });
        worker.on("completed", (source, result) => this.#completed(source, result));
        worker.on("failed", (source, error) => this.#failed(source, error));
        worker.on("lost", (source) => this.#stalled(source));
        worker.on("error", (error) => this.#queue.emit("error", error));
        if (this.#isPaused) {
            void worker.pause(true);
        }
        this.#worker = worker;
    }

    async #run(source: DroverJob<any>, signal: AbortSignal): Promise<unknown> {
        const job = toJob(this.#queue, source);
        job.abortSignal = signal;
        this.#jobs.set(source, job);
        const handler = this.#handlers.get(job.name) ?? this.#handlers.get(ANY_NAME);
        if (!handler) {
            throw new NoHandlerError(job.name);
        }
        this.#running += 1;
        this.#isDrained = false;
        try {
            this.#queue.emit("active", job, undefined, "waiting");
            return await untilTimeout(handler(job), signal);
        } finally {
            this.#running -= 1;
            if (this.#running === 0) {
                this.#waiting.splice(0).forEach((resolve) => resolve());
                void this.#checkDrained();
            }
        }
    }

    #completed(source: DroverJob<any>, result: unknown): void {
        const job = this.#jobs.get(source);
        if (job) {
            job.returnvalue = result;
            job.attemptsMade = failedAttemptsOf(source);
            job.finishedOn = source.finishedOn ?? Date.now();
            this.#queue.emit("completed", job, result, "active");
            void this.#checkDrained();
        }
    }

    /** Emits the event `stalled` for a job whose lease ended before it was settled. The job may run again. */
    #stalled(source: DroverJob<any>): void {
        const job = this.#jobs.get(source);
        if (job) {
            this.#queue.emit("stalled", job);
        }
    }

    /** Emits the event `drained` if the queue has no more jobs to process. */
    async #checkDrained(): Promise<void> {
        if (this.#running === 0 && !this.#isClosed && this.#queue.listenerCount("drained") > 0) {
            const { waiting, active } = await this.#queue.getJobCounts().catch(() => ({ waiting: 1, active: 0 }));
            if (waiting + active === 0 && !this.#isDrained) {
                this.#isDrained = true;
                this.#queue.emit("drained");
            }
        }
    }

    #failed(source: DroverJob<any>, error: Error): void {
        const job = this.#jobs.get(source);
        if (job) {
            job.attemptsMade = source.attemptsMade;
            job.failedReason = error.message;
            job.stacktrace.push(error.stack ?? error.message);
            if (source.state === "failed") {
                job.finishedOn = source.finishedOn ?? Date.now();
            }
            this.#queue.emit("failed", job, error, "active");
            void this.#checkDrained();
        }
    }
}

/** Waits for a handler until the job's `timeout`. As in Bull, the job then fails, although its handler continues. */
async function untilTimeout(result: Promise<unknown>, signal: AbortSignal): Promise<unknown> {
    let end = (): void => {};
    const timeout = new Promise<never>((_, reject) => {
        end = () => {
            if ((signal.reason as Error | undefined)?.name === "TimedOutError") {
                reject(signal.reason as Error);
            }
        };
        signal.addEventListener("abort", end);
    });
    try {
        return await Promise.race([result, timeout]);
    } finally {
        signal.removeEventListener("abort", end);
    }
}

/** Converts a handler to a function that returns a promise. A handler with two parameters gets Bull's callback as the second argument. */
function toPromise(handler: Handler): (job: Job) => Promise<unknown> {
    if (handler.length < 2) {
        return async (job) => (handler as (job: Job) => unknown)(job);
    }
    return (job) =>
        new Promise((resolve, reject) => {
            const done: DoneCallback = (error, value) => {
                if (error) {
                    reject(error);
                } else {
                    resolve(value);
                }
            };
            // An asynchronous handler that takes a callback may also throw an error instead of calling the callback.
            Promise.resolve(handler(job, done)).catch(reject);
        });
}
