/** Bull's job, on top of the job of drover-client. */
import { DroverError, type Job as DroverJob } from "drover-client";

import { fromDroverId } from "./ids.js";
import { fromDroverPriority } from "./options.js";
import type { Queue } from "./queue.js";
import { DEFAULT_JOB_NAME } from "./repeat.js";
import type { JobId, JobJson, JobOptions, JobStatus } from "./types.js";
import { JOB_METHODS, unsupported, UnsupportedError } from "./unsupported.js";
import { warnOnce } from "./warnings.js";

/** The fields of a job at a moment. */
export interface JobFields<T = any> {
    id: JobId;
    name: string;
    data: T;
    opts: JobOptions;
    delay: number;
    timestamp: number;
    progress: unknown;
    attemptsMade: number;
    returnvalue: unknown;
    failedReason: string | undefined;
    processedOn: number | undefined;
    finishedOn: number | undefined;
}

export class Job<T = any> {
    id: JobId;
    name: string;
    data: T;
    opts: JobOptions;
    queue: Queue<T>;
    /** Milliseconds between the job's post and its due time. */
    delay: number;
    timestamp: number;
    attemptsMade: number;
    /** The stacks of the errors that this process saw; Drover stores none. */
    stacktrace: string[] = [];
    returnvalue: any;
    failedReason?: string | undefined;
    processedOn?: number | undefined;
    finishedOn?: number | undefined;
    /** Drover's addition, inside a handler: aborted when the lease is lost, and when the job is cancelled or its `timeout` is over. */
    abortSignal?: AbortSignal | undefined;
    #progress: unknown;
    /** The progress that was reported last. */
    #newest: { stored: Promise<void>; value: unknown; reported: Promise<void> } | undefined;
    #isDiscarded = false;
    readonly #source: DroverJob<T> | undefined;

    /** @internal Applications get jobs from `queue.add`, `queue.getJob` and the like. */
    constructor(queue: Queue<T>, fields: JobFields<T>, source?: DroverJob<T>) {
        this.queue = queue;
        this.#source = source;
        this.id = fields.id;
        this.name = fields.name;
        this.data = fields.data;
        this.opts = fields.opts;
        this.delay = fields.delay;
        this.timestamp = fields.timestamp;
        this.attemptsMade = fields.attemptsMade;
        this.returnvalue = fields.returnvalue;
        this.failedReason = fields.failedReason;
        this.processedOn = fields.processedOn;
        this.finishedOn = fields.finishedOn;
        this.#progress = fields.progress;
    }

    /** Without a value, returns the progress reported last. With a value, reports it: possible only inside the job's handler. */
    progress(): any;
    progress(value: any): Promise<void>;
    progress(...values: [] | [unknown]): unknown {
        return values.length === 0 || values[0] === undefined ? this.#progress : this.#report(values[0]);
    }

    /** drover-client returns the same promise for values that replace each other, so only the newest value of a job waits. */
    #report(value: unknown): Promise<void> {
        let stored: Promise<void>;
        try {
            stored = this.#drover.updateProgress(value);
        } catch (error) {
            return Promise.reject(error);
        }
        if (this.#newest?.stored === stored) {
            this.#newest.value = value;
            return this.#newest.reported;
        }
        const report = { stored, value, reported: stored };
        report.reported = stored.then(() => {
            this.#progress = report.value;
            this.queue.emit("progress", this, report.value);
        });
        // A handler that does not wait for the promise must not end the process when the lease is lost.
        report.reported.catch(() => {});
        this.#newest = report;
        return report.reported;
    }

    /** Replaces the data of a job that no process has started. */
    async update(data: T): Promise<void> {
        try {
            await this.#drover.updateData(data);
        } catch (error) {
            if (error instanceof DroverError && error.code === "message_active") {
                throw new UnsupportedError("job.update() of an active job", "keep the state of the work with job.progress(value)");
            }
            throw error;
        }
        this.data = data;
    }

    /** Has no effect, because Drover keeps no logs of jobs; warns once. */
    async log(_row: string): Promise<any> {
        warnOnce("job.log", "job.log() has no effect: Drover keeps no logs of jobs; report job.progress(value), or use your own log");
        return 0;
    }

    /**
     * Reads the job's state, and with it the result and the other fields that change. `paused` are the waiting jobs of a paused queue,
     * `stuck` are forgotten jobs.
     */
    async getState(): Promise<JobStatus | "stuck"> {
        if (!this.#source) {
            return "delayed";
        }
        const state = await this.#source.getState();
        this.#refresh(this.#source);
        switch (state) {
            case "unknown":
                return "stuck";
            case "held":
            case "waiting":
                return (await this.queue.isPaused()) ? "paused" : "waiting";
            default:
                return state;
        }
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

    async isPaused(): Promise<boolean> {
        return (await this.getState()) === "paused";
    }

    async isStuck(): Promise<boolean> {
        return (await this.getState()) === "stuck";
    }

    isDiscarded(): boolean {
        return this.#isDiscarded;
    }

    /** Waits until the job has finished. Returns the result, or throws an error with the text of the failure. */
    async finished(): Promise<any> {
        try {
            return await this.#drover.waitUntilFinished();
        } finally {
            this.#refresh(this.#drover);
        }
    }

    /** Makes a failed job wait again, with all its attempts. */
    async retry(): Promise<void> {
        await this.#drover.retry();
        this.failedReason = undefined;
        this.finishedOn = undefined;
        this.processedOn = undefined;
    }

    /** Makes a delayed job due now. */
    async promote(): Promise<void> {
        await this.#drover.promote();
    }

    /** Forgets the job, which must not be active. */
    async remove(): Promise<void> {
        await this.#drover.remove();
        this.queue.emit("removed", this);
    }

    /** Inside the job's handler: if this attempt fails, no other attempt follows. */
    async discard(): Promise<void> {
        this.#drover.discard();
        this.#isDiscarded = true;
    }

    /**
     * Inside the job's handler: completes the job at once. What the handler returns or throws later changes nothing. The other arguments
     * of Bull have no effect, and there is never a next job.
     */
    async moveToCompleted(returnValue?: any, _ignoreLock?: boolean, _notFetch?: boolean): Promise<[any, JobId] | null> {
        await this.#drover.moveToCompleted(returnValue ?? null);
        return null;
    }

    /** Inside the job's handler: fails the attempt at once. Another attempt follows, if any is left. */
    async moveToFailed(errorInfo: { message: string }, _ignoreLock?: boolean): Promise<[any, JobId] | null> {
        await this.#drover.moveToFailed(errorInfo instanceof Error ? errorInfo : new Error(errorInfo?.message ?? "Unknown reason"));
        return null;
    }

    /** Has no effect: the worker extends the lease while the handler runs. */
    async extendLock(_duration: number): Promise<number> {
        return 1;
    }

    /** @deprecated An error. */
    lockKey(): string {
        throw unsupported(JOB_METHODS, "lockKey", "job.");
    }

    /** @deprecated An error. */
    async takeLock(): Promise<number | false> {
        throw unsupported(JOB_METHODS, "takeLock", "job.");
    }

    /** @deprecated An error. */
    async releaseLock(): Promise<void> {
        throw unsupported(JOB_METHODS, "releaseLock", "job.");
    }

    /** Returns the job with the fields of Bull, as `JSON.stringify` writes it. */
    toJSON(): JobJson<T> {
        return {
            id: this.id,
            name: this.name,
            data: this.data,
            opts: { ...this.opts },
            progress: this.#progress as number,
            delay: this.delay,
            timestamp: this.timestamp,
            attemptsMade: this.attemptsMade,
            failedReason: this.failedReason,
            stacktrace: this.stacktrace,
            returnvalue: this.returnvalue ?? null,
            finishedOn: this.finishedOn ?? null,
            processedOn: this.processedOn ?? null,
        };
    }

    #refresh(source: DroverJob<T>): void {
        const { returnvalue, failedReason, processedOn, finishedOn, progress } = source;
        Object.assign(this, { attemptsMade: failedAttemptsOf(source), returnvalue, failedReason, processedOn, finishedOn });
        this.#progress = progress;
    }

    get #drover(): DroverJob<T> {
        if (!this.#source) {
            const instead = "get the next job with queue.getDelayed(), or end the repetition with queue.removeRepeatableByKey()";
            throw new UnsupportedError("this method of the job that announces a repetition", instead);
        }
        return this.#source;
    }
}

/** Makes Bull's job from drover-client's. `opts` are the options with which the job was added, if they are known. */
export function toJob<T>(queue: Queue<T>, source: DroverJob<T>, opts?: JobOptions): Job<T> {
    const { name, data, delay, timestamp, progress, returnvalue, failedReason, processedOn, finishedOn } = source;
    const attemptsMade = failedAttemptsOf(source);
    const fields: JobFields<T> = {
        ...{ data, delay, timestamp, progress, attemptsMade, returnvalue, failedReason, processedOn, finishedOn },
        id: fromDroverId(source.id),
        name: name === "" ? DEFAULT_JOB_NAME : name,
        opts: { ...(opts ?? optionsOf(source)), delay },
    };
    return new Job(queue, fields, source);
}

/** As in Bull, the attempt that completed a job is not counted. */
export function failedAttemptsOf({ state, attemptsMade }: DroverJob<any>): number {
    return state === "completed" ? Math.max(0, attemptsMade - 1) : attemptsMade;
}

/** The options that a message of Drover shows: all but `backoff`. */
function optionsOf({ id, message }: DroverJob<any>): JobOptions {
    const { max_attempts: attempts, group, headers, schedule } = message;
    const { timeout } = message as { timeout?: number | null };
    const priority = fromDroverPriority(message.priority);
    return {
        ...(/^[0-9]+$/.test(id) ? {} : { jobId: fromDroverId(id) }),
        ...(attempts === undefined ? {} : { attempts }),
        ...(priority === undefined ? {} : { priority }),
        ...(timeout ? { timeout } : {}),
        ...(group ? { group } : {}),
        ...(headers && Object.keys(headers).length > 0 ? { headers } : {}),
        ...(schedule ? { repeat: { key: schedule } as never } : {}),
    };
}
