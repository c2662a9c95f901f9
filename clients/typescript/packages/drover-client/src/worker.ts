/** The class `Worker`, which leases jobs, runs a handler on each job, and settles the leases. */
import { captureRejectionSymbol } from "node:events";

import { Api, type LeasedMessage } from "./api.js";
import { Backoff, Notifier } from "./backoff.js";
import { Emitter } from "./emitter.js";
import { DroverError, WorkerClosedError, toError } from "./errors.js";
import { Heartbeat } from "./heartbeat.js";
import { type DroverOptions, Http, checkTime, isTemporary, retryAfterOf, type Sent } from "./http.js";
import type { Job } from "./job.js";
import { type End, Lease, type LeaseOwner, releaseUnstarted } from "./lease.js";
import { checkQueueName } from "./queue.js";
import { Settler } from "./settler.js";

/**
 * A handler, which works on a job. The value that the handler returns is the job's result; an error that the handler throws fails the
 * attempt.
 */
export type Processor<Data = unknown, Result = unknown> = (job: Job<Data, Result>, signal: AbortSignal) => Promise<Result> | Result;

export interface WorkerOptions extends Omit<DroverOptions, "timeout"> {
    /** The maximum number of handlers that run at the same time; default 1. */
    concurrency?: number | undefined;
    /** The time (ms) for which a lease lasts unless it is extended: 100 or more; default: the queue's setting (30,000). */
    visibilityTimeout?: number | undefined;
    /** The time (ms) for which `close` waits for running handlers; default 30,000. */
    closeTimeout?: number | undefined;
    /** Whether the constructor starts the worker (default true). Otherwise the method `run` starts the worker. */
    autorun?: boolean | undefined;
}

export interface WorkerEvents<Data = unknown, Result = unknown> {
    /** A handler starts to work on the job. One of the events `completed`, `failed`, `released` and `lost` follows. */
    active: [job: Job<Data, Result>];
    /** The API has confirmed the result of the job. */
    completed: [job: Job<Data, Result>, result: Result];
    /** The API has confirmed that the attempt failed. `job.state` says whether another attempt follows. */
    failed: [job: Job<Data, Result>, error: Error];
    /** The API has confirmed that the job returned to the queue with no attempt counted. */
    released: [job: Job<Data, Result>];
    /** The lease of the job ended before the API confirmed a settlement, so the job may run again. */
    lost: [job: Job<Data, Result>, error: Error];
    /** The API has stored the progress that a handler reported. */
    progress: [job: Job<Data, Result>, progress: unknown];
    /**
     * A request of the worker failed, or a listener threw an error. The worker continues. If the event `error` has no listener, the errors
     * are ignored.
     */
    error: [error: Error];
    paused: [];
    resumed: [];
    closed: [];
}

/** The time (ms) for which one lease request waits for jobs. */
const LEASE_WAIT = 20_000;
/** The maximum number of jobs that one request leases. */
const MAX_JOBS = 1_000;
/** The maximum number of jobs whose handlers have ended and whose leases are not settled yet. */
const MAX_UNSETTLED = 1_000;
/** The pause (ms) after an error that only an operator can correct, such as a wrong key. */
const LONG_PAUSE = 30_000;
/** The time (ms) that aborted handlers have to return a value while the worker closes. */
const ABORT_GRACE = 1_000;
/** The time (ms) for which a closing worker tries to send its last settlements. */
const SETTLE_LIMIT = 5_000;

export class Worker<Data = unknown, Result = unknown> extends Emitter<WorkerEvents<Data, Result>> {
    readonly name: string;
    readonly #processor: Processor<Data, Result>;
    readonly #http: Http;
    readonly #api: Api;
    readonly #settler: Settler;
    readonly #heartbeat: Heartbeat;
    readonly #owner: LeaseOwner;
    readonly #visibilityTimeout: number | undefined;
    readonly #closeTimeout: number;
    /** The leases whose handlers run. */
    readonly #running = new Set<Lease>();
    #concurrency: number;
    #wait = LEASE_WAIT;
    /** The id by which the API recognizes this worker. */
    #consumer: string | undefined;
    #poll: Sent | undefined;
    #isPollWithdrawn = false;
    #isPaused = false;
    #isClosing = false;
    #loop: Promise<void> | undefined;
    #closed: Promise<void> | undefined;
    #isForced = false;
    /**
     * The notifier that is called when a handler has ended, when a settlement is confirmed, and when the worker is paused, resumed or
     * closed.
     */
    readonly #change = new Notifier();

    constructor(name: string, processor: Processor<Data, Result>, options: WorkerOptions = {}) {
        // With `captureRejections`, a rejected promise of a listener causes the event `error`, and does not end the process.
        super({ captureRejections: true });
        this.name = checkQueueName(name);
        if (typeof processor !== "function") {
            throw new TypeError("the handler of a worker must be a function: (job, signal) => result");
        }
        this.#processor = processor;
        this.#concurrency = checkConcurrency(options.concurrency ?? 1);
        this.#closeTimeout = checkTime("closeTimeout", options.closeTimeout ?? 30_000);
        const { visibilityTimeout } = options;
        this.#visibilityTimeout = visibilityTimeout === undefined ? undefined : checkTime("visibilityTimeout", visibilityTimeout);
        this.#http = new Http(options);
        this.#api = new Api(this.#http, name);
        const onError = (error: Error): void => this.#report("error", error);
        this.#settler = new Settler(this.#api, onError, () => this.#change.notify());
        this.#heartbeat = new Heartbeat(this.#api, onError);
        this.#owner = {
            api: this.#api,
            settler: this.#settler,
            stopExtending: (lease) => this.#heartbeat.remove(lease),
            reported: (job, value) => this.#report("progress", job as Job<Data, Result>, value),
            ended: (job, end) => this.#ended(job as Job<Data, Result>, end),
            failed: onError,
        };
        if (options.autorun ?? true) {
            void this.run();
        }
    }

    /** The address of the API. */
    get url(): string {
        return this.#http.url;
    }

    /** The maximum number of handlers that run at the same time. */
    get concurrency(): number {
        return this.#concurrency;
    }

    set concurrency(value: number) {
        this.#concurrency = checkConcurrency(value);
        this.#change.notify();
    }

    /**
     * Starts the worker, unless the worker runs already. The returned promise is fulfilled when the worker has stopped leasing because it
     * closes.
     */
    run(): Promise<void> {
        if (this.#isClosing) {
            return Promise.reject(new Error("the worker is closed: create another one"));
        }
        this.#loop ??= this.#lease();
        return this.#loop;
    }

    /** Returns whether the worker was started and does not close, even if the worker is paused. */
    isRunning(): boolean {
        return this.#loop !== undefined && !this.#isClosing;
    }

    isPaused(): boolean {
        return this.#isPaused;
    }

    /**
     * Stops the leasing of jobs by this worker only. Waits until no lease request is open, and until no handler runs unless
     * `doNotWaitActive` is true.
     */
    async pause(doNotWaitActive = false): Promise<void> {
        if (!this.#isPaused) {
            this.#isPaused = true;
            this.#withdrawPoll();
            this.#change.notify();
            this.#report("paused");
        }
        await this.#poll?.answer.catch(() => {});
        if (!doNotWaitActive) {
            await this.#idle(Infinity);
        }
    }

    /** Ends the pause of this worker, which then leases jobs again. */
    resume(): void {
        if (this.#isPaused) {
            this.#isPaused = false;
            this.#change.notify();
            this.#report("resumed");
        }
    }

    /**
     * Stops leasing, waits for running handlers for at most `closeTimeout`, then aborts the signals of the handlers that still run and
     * releases their jobs. The promise that `close` returns is fulfilled when the API has confirmed all settlements, or after some seconds
     * without a confirmation. With `force` (or `true`, as in BullMQ), running handlers are aborted at once.
     */
    close(force: boolean | { force?: boolean } = false): Promise<void> {
        if (typeof force === "object" ? force.force : force) {
            this.#isForced = true;
            this.#change.notify();
        }
        this.#closed ??= this.#close();
        return this.#closed;
    }

    /** Ignores an `error` event without a listener, because an outage of the API must not end the process. */
    override emit<E extends keyof WorkerEvents>(event: E, ...args: WorkerEvents<Data, Result>[E]): boolean {
        if (event === "error" && this.listenerCount("error") === 0) {
            return false;
        }
        return super.emit(event as never, ...(args as never));
    }

    async #close(): Promise<void> {
        this.#isClosing = true;
        this.#withdrawPoll();
        this.#change.notify();
        await this.#loop;
        if (!(await this.#idle(this.#closeTimeout, () => this.#isForced))) {
            for (const lease of this.#running) {
                lease.abort(new WorkerClosedError("the worker closes"));
            }
            await this.#idle(ABORT_GRACE);
            for (const lease of this.#running) {
                lease.release();
            }
        }
        await this.#settler.end(SETTLE_LIMIT);
        this.#http.destroy();
        this.#report("closed");
    }

    /** Waits until no handler runs, for at most `limit` ms. Returns whether no handler runs. */
    async #idle(limit: number, isOver = (): boolean => false): Promise<boolean> {
        const deadline = performance.now() + limit;
        for (let left = limit; this.#running.size > 0 && left > 0 && !isOver(); left = deadline - performance.now()) {
            await this.#change.wait(left);
        }
        return this.#running.size === 0;
    }

    #withdrawPoll(): void {
        this.#isPollWithdrawn = true;
        this.#poll?.withdraw();
    }

    /** Leases jobs until the worker closes. */
    async #lease(): Promise<void> {
        const backoff = new Backoff();
        while (!this.#isClosing) {
            const free = Math.min(this.#concurrency - this.#running.size, MAX_UNSETTLED + this.#concurrency - this.#settler.size);
            if (this.#isPaused || free <= 0) {
                await this.#change.wait(Infinity);
                continue;
            }
            const begin = performance.now();
            this.#isPollWithdrawn = false;
            try {
                const messages = await this.#receive(Math.min(free, MAX_JOBS));
                if (messages.length === 0 && performance.now() - begin < this.#wait / 2 && !this.#isPollWithdrawn) {
                    // The API answers an empty list before the end of the wait only if `api.max_wait` permits no wait.
                    await this.#pauseAfter(backoff.pause());
                } else {
                    backoff.reset();
                }
            } catch (error) {
                // A lease request that the worker has withdrawn fails when the API closes the connection, which is no error.
                if (!this.#isPollWithdrawn) {
                    await this.#pauseAfter(this.#recover(toError(error), backoff));
                }
            }
        }
    }

    #isStopped(): boolean {
        return this.#isClosing || this.#isPaused;
    }

    async #receive(max: number): Promise<LeasedMessage[]> {
        const body = JSON.stringify({
            max,
            wait: this.#wait,
            visibility_timeout: this.#visibilityTimeout,
            consumer: this.#consumer,
        });
        const poll = this.#api.post("/v1/queues/{queue}/leases", body, { wait: this.#wait });
        this.#poll = poll;
        try {
            const { consumer, messages } = await poll.answer;
            this.#consumer = consumer;
            const arrival = performance.now();
            for (const message of messages) {
                if (this.#isStopped()) {
                    releaseUnstarted(this.#settler, message);
                } else {
                    this.#start(new Lease(this.#owner, message, arrival));
                }
            }
            return messages;
        } finally {
            this.#poll = undefined;
        }
    }

    /** Reports an error of a lease request. Returns the pause (ms) before the next lease request. */
    #recover(error: Error, backoff: Backoff): number {
        if (error instanceof DroverError && error.code === "invalid_receive" && error.errors[0]?.pointer === "/wait" && this.#wait > 0) {
            // The API refused the wait, because the wait is longer than the API's setting `api.max_wait`.
            this.#wait = this.#wait < 100 ? 0 : Math.floor(this.#wait / 2);
            return 0;
        }
        this.#report("error", error);
        const isServerFailure = error instanceof DroverError && error.status === 500;
        return isTemporary(error) || isServerFailure ? Math.max(backoff.pause(), retryAfterOf(error)) : LONG_PAUSE;
    }

    /** Waits `pause` milliseconds. The wait ends early when the worker closes or is paused. */
    async #pauseAfter(pause: number): Promise<void> {
        const end = performance.now() + pause;
        for (let left = pause; left > 0 && !this.#isStopped(); left = end - performance.now()) {
            await this.#change.wait(left);
        }
    }

    #start(lease: Lease): void {
        this.#running.add(lease);
        this.#heartbeat.add(lease);
        void this.#run(lease);
    }

    async #run(lease: Lease): Promise<void> {
        const job = lease.job as Job<Data, Result>;
        this.#report("active", job);
        try {
            const result = await this.#processor(job, lease.signal);
            lease.returned(result);
        } catch (error) {
            try {
                lease.threw(error);
            } catch {
                lease.threw(new Error("the handler threw a value that can't be read"));
            }
        }
        this.#running.delete(lease);
        this.#change.notify();
    }

    #ended(job: Job<Data, Result>, end: End): void {
        switch (end.kind) {
            case "completed":
                this.#report("completed", job, end.value as Result);
                break;
            case "failed":
                this.#report("failed", job, end.error);
                break;
            case "released":
                this.#report("released", job);
                break;
            case "lost":
                this.#report("lost", job, end.error);
                break;
        }
    }

    /** Emits an event, and reports an error that a listener throws as the event `error`. */
    #report<K extends keyof WorkerEvents<Data, Result>>(event: K, ...args: WorkerEvents<Data, Result>[K]): void {
        try {
            this.emit(event as never, ...(args as never));
        } catch (error) {
            if (event !== "error") {
                this.#report("error", toError(error));
            } else {
                process.emitWarning(toError(error), "DroverWarning");
            }
        }
    }
}

// Node calls the method `captureRejectionSymbol` when the promise of a listener is rejected.
Object.defineProperty(Worker.prototype, captureRejectionSymbol, {
    value(this: Worker, thrown: unknown, event: string): void {
        try {
            if (event !== "error") {
                this.emit("error", toError(thrown));
                return;
            }
        } catch (error) {
            thrown = error;
        }
        process.emitWarning(toError(thrown), "DroverWarning");
    },
});

function checkConcurrency(value: number): number {
    if (!Number.isSafeInteger(value) || value < 1) {
        throw new TypeError(`concurrency: ${String(value)} is not possible: give a whole number, 1 or more`);
    }
    return value;
}

