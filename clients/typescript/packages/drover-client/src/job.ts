/** A job: one message of a queue. */
import type { Api, LeasedMessage, Message, Parts, Schemas } from "./api.js";
import { DroverError } from "./errors.js";
import type { Duration, JobOptions } from "./options.js";
import { waitUntilFinished } from "./waiting.js";

/** The state of a job; `unknown` if the job is forgotten. */
export type JobState = Schemas["State"] | "unknown";

export interface JobJson<Data = unknown, Result = unknown> {
    id: string;
    name: string;
    queueName: string;
    state: JobState;
    data: Data;
    opts: JobOptions;
    progress: unknown;
    delay: number;
    timestamp: number;
    attemptsMade: number;
    returnvalue: Result | null;
    failedReason: string | undefined;
    processedOn: number | undefined;
    finishedOn: number | undefined;
}

/** The operations on a job that are possible only while the job's handler runs. */
export interface Run {
    readonly signal: AbortSignal;
    reportProgress(value: unknown): Promise<void>;
    complete(value: unknown): Promise<void>;
    fail(error: unknown): Promise<void>;
    discard(): void;
}

const NO_RUN = "possible only inside the handler of a Worker, while the handler runs";

/** Creates a job from a message. The package does not export `createJob`. */
export let createJob: <Data, Result>(api: Api, message: Message | LeasedMessage, run?: Run) => Job<Data, Result>;
/** Replaces the fields of a job. The package does not export `refreshJob`. */
export let refreshJob: (job: Job, message: Partial<Message>) => void;

export class Job<Data = unknown, Result = unknown> {
    readonly #api: Api;
    readonly #run: Run | undefined;
    #message: Message;

    readonly id: string;
    /** The name of the job, which identifies its kind; empty if the job was posted without a name. */
    readonly name: string;
    readonly queueName: string;
    data: Data;
    /** Whether `add` found an earlier job with the same `jobId` or `idempotencyKey`, and stored nothing. */
    readonly duplicate: boolean;

    static {
        createJob = (api, message, run) => new Job(api, message, run);
        refreshJob = (job, message) => job.#refresh(message);
    }

    private constructor(api: Api, message: Message, run: Run | undefined) {
        this.#api = api;
        this.#run = run;
        this.#message = message;
        this.id = message.id;
        this.name = message.name ?? "";
        this.queueName = message.queue;
        this.data = message.data as Data;
        this.duplicate = (message as { duplicate?: boolean }).duplicate === true;
    }

    /** The state of the job at the last answer of the API. */
    get state(): JobState {
        return this.#message.state;
    }

    /** The options of the job, as the API stored them. */
    get opts(): JobOptions {
        const { id, delay, priority, max_attempts: attempts, hold, group, headers } = this.#message;
        const hasHeaders = headers !== undefined && Object.keys(headers).length > 0;
        return {
            ...(/^[0-9]+$/.test(id) ? {} : { jobId: id }),
            delay,
            priority,
            ...(attempts === undefined ? {} : { attempts }),
            ...(hold === null || hold === undefined ? {} : { hold }),
            ...(group === null || group === undefined ? {} : { group }),
            ...(hasHeaders ? { headers } : {}),
        };
    }

    /** The time (ms) from the post of the job to its first due time. */
    get delay(): number {
        return this.#message.delay;
    }

    get priority(): number {
        return this.#message.priority;
    }

    get group(): string | undefined {
        return this.#message.group ?? undefined;
    }

    get headers(): Readonly<Record<string, string>> {
        return this.#message.headers ?? {};
    }

    /** The data of the signal that released the job. */
    get signal(): unknown {
        return this.#message.signal;
    }

    /** The value that the handler reported last; 0 if none. */
    get progress(): unknown {
        return this.#message.progress ?? 0;
    }

    /** The result of the job's handler; null if the job has no result. */
    get returnvalue(): Result | null {
        return (this.#message.result ?? null) as Result | null;
    }

    /** The message of the job's last failure; undefined after an attempt completes. */
    get failedReason(): string | undefined {
        return this.#message.error?.message;
    }

    /** The job's last failure, with its code, message, attempt and time; undefined after an attempt completes. */
    get error(): Schemas["MessageError"] | undefined {
        return this.#message.error ?? undefined;
    }

    /** The number of the job's attempts that completed or failed. */
    get attemptsMade(): number {
        return this.#message.attempts_made;
    }

    /** The number of times that the job was leased. */
    get deliveries(): number {
        return this.#message.deliveries;
    }

    /** The time at which the job was posted, in ms since 1970. */
    get timestamp(): number {
        return Date.parse(this.#message.created_at);
    }

    /** The time at which the job was leased last, in ms since 1970. */
    get processedOn(): number | undefined {
        return toTime(this.#message.started_at);
    }

    /** The time at which the job finished, in ms since 1970. */
    get finishedOn(): number | undefined {
        return toTime(this.#message.finished_at);
    }

    /** The message of the job, as the API describes messages. */
    get message(): Readonly<Message> {
        return this.#message;
    }

    /** Reads the state of the job from the API. */
    async getState(): Promise<JobState> {
        await this.#read();
        return this.#message.state ?? "unknown";
    }

    async isCompleted(): Promise<boolean> {
        return (await this.getState()) === "completed";
    }

    async isFailed(): Promise<boolean> {
        return (await this.getState()) === "failed";
    }

    async isDelayed(): Promise<boolean> {
        return (await this.getState()) === "delayed";
    }

    async isActive(): Promise<boolean> {
        return (await this.getState()) === "active";
    }

    async isWaiting(): Promise<boolean> {
        return (await this.getState()) === "waiting";
    }

    async isHeld(): Promise<boolean> {
        return (await this.getState()) === "held";
    }

    /**
     * Waits until the job has finished, for at most `ttl` ms. The wait continues if the API is not available for less than the queue's
     * option `timeout`. Returns the job's result, or throws a `JobFailedError`; throws a `WaitTimeoutError` after `ttl`, and a
     * `DroverError` with the code `message_not_found` if the job is forgotten.
     */
    async waitUntilFinished(ttl?: number): Promise<Result> {
        await waitUntilFinished(this, this.#api.http, ttl, (wait, limit) => this.#read({ query: { wait: `${wait}ms` }, wait, limit, once: true }));
        return this.returnvalue as Result;
    }

    /**
     * Reports progress: any JSON up to 64 KiB. Possible only inside the job's handler. While one report is on its way, only the newest value
     * waits, and replaces the values before it.
     */
    updateProgress(value: unknown): Promise<void> {
        return this.#run?.reportProgress(value) ?? handled(Promise.reject(new Error(`updateProgress: ${NO_RUN}`)));
    }

    /**
     * Completes the job at once, before its handler has ended; the handler's later result changes nothing. `moveToCompleted` is possible
     * only inside the job's handler.
     */
    moveToCompleted(returnValue?: Result): Promise<void> {
        return handled(this.#running("moveToCompleted", (run) => run.complete(returnValue)));
    }

    /**
     * Fails the attempt before the handler has ended; the handler's later result changes nothing. Possible only inside the job's handler.
     */
    moveToFailed(error: unknown): Promise<void> {
        return handled(this.#running("moveToFailed", (run) => run.fail(error)));
    }

    /** Makes the job fail for good if the running attempt fails. `discard` is possible only inside the job's handler. */
    discard(): void {
        if (this.#run === undefined) {
            throw new Error(`discard: ${NO_RUN}`);
        }
        this.#run.discard();
    }

    /** Replaces the data of a job that was never leased. */
    async updateData(data: Data): Promise<void> {
        await this.#patch({ data: data as never });
        this.data = data;
    }

    /** Sets the delay (ms), counted from now, of a job that was never leased. */
    changeDelay(delay: Duration): Promise<void> {
        return this.#patch({ delay });
    }

    /** Sets the priority of a job that was never leased. */
    changePriority({ priority }: { priority: number }): Promise<void> {
        return this.#patch({ priority });
    }

    /** Makes a failed job ready again, with all its attempts. */
    async retry(): Promise<void> {
        const isDone = ({ status }: DroverError): boolean => status === 409;
        this.#refresh(await this.#api.call("post", "/v1/queues/{queue}/messages/{id}/retry", { name: this.id, isDone }));
    }

    /** Makes a delayed job ready, even during its back-off. */
    async promote(): Promise<void> {
        const isDone = ({ status }: DroverError): boolean => status === 409;
        this.#refresh(await this.#api.call("post", "/v1/queues/{queue}/messages/{id}/promote", { name: this.id, isDone }));
    }

    /**
     * Fails the job with the code `cancelled`. If the job's handler runs, the worker aborts the handler's signal when it next extends the
     * lease.
     */
    async cancel(): Promise<void> {
        const isDone = ({ code }: DroverError): boolean => code === "message_failed";
        this.#refresh(await this.#api.call("post", "/v1/queues/{queue}/messages/{id}/cancel", { name: this.id, isDone }));
    }

    /** Deletes the job from Drover. The job must not be active. */
    async remove(): Promise<void> {
        const isDone = ({ code }: DroverError): boolean => code === "message_not_found";
        await this.#api.call("delete", "/v1/queues/{queue}/messages/{id}", { name: this.id, isDone });
    }

    toJSON(): JobJson<Data, Result> {
        const { id, name, queueName, state, data, opts, progress, delay, timestamp, attemptsMade } = this;
        const { returnvalue, failedReason, processedOn, finishedOn } = this;
        return {
            ...{ id, name, queueName, state, data, opts, progress, delay, timestamp, attemptsMade },
            ...{ returnvalue, failedReason, processedOn, finishedOn },
        };
    }

    async #running(method: string, act: (run: Run) => Promise<void>): Promise<void> {
        if (this.#run === undefined) {
            throw new Error(`${method}: ${NO_RUN}`);
        }
        await act(this.#run);
    }

    async #patch(body: Schemas["MessagePatch"]): Promise<void> {
        const contentType = "application/merge-patch+json";
        this.#refresh(await this.#api.call("patch", "/v1/queues/{queue}/messages/{id}", { name: this.id, body, contentType }));
    }

    /** Reads the job from the API. Returns whether Drover still keeps the job. */
    async #read(parts: Parts<"/v1/queues/{queue}/messages/{id}", "get"> = {}): Promise<boolean> {
        try {
            this.#refresh(await this.#api.call("get", "/v1/queues/{queue}/messages/{id}", { ...parts, name: this.id }));
            return true;
        } catch (error) {
            if (isForgotten(error)) {
                this.#message = { ...this.#message, state: "unknown" as never };
                return false;
            }
            throw error;
        }
    }

    #refresh(message: Partial<Message> | Schemas["GoneMessage"] | undefined): void {
        if (message !== undefined) {
            this.#message = { ...this.#message, ...(message as Partial<Message>) };
        }
    }
}

// Node calls this method, which makes `console.log(job)` show the fields of the job.
Object.defineProperty(Job.prototype, Symbol.for("nodejs.util.inspect.custom"), {
    value(this: Job): unknown {
        return this.toJSON();
    },
});

/** Returns whether an error of the API means that the job does not exist. */
export function isForgotten(error: unknown): boolean {
    return error instanceof DroverError && (error.code === "message_not_found" || error.code === "queue_not_found");
}

/** Without this call, a rejected promise that the handler does not wait for would end the process. */
export function handled<T>(promise: Promise<T>): Promise<T> {
    promise.catch(() => {});
    return promise;
}

function toTime(instant: string | null | undefined): number | undefined {
    return instant === null || instant === undefined ? undefined : Date.parse(instant);
}
