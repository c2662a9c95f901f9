/** Bull's class `Job`, on top of the class `Job` of drover-client. */
import { DroverError, type Job as DroverJob } from "drover-client";

import { fromDroverId } from "./ids.js";
import { fromDroverPriority } from "./options.js";
import type { Queue } from "./queue.js";
import { DEFAULT_JOB_NAME } from "./repeat.js";
import type { JobId, JobJson, JobOptions, JobStatus } from "./types.js";
import { JOB_METHODS, unsupported, UnsupportedError } from "./unsupported.js";
import { warnOnce } from "./warnings.js";

/** A snapshot of the fields of a job. */
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
    /** The milliseconds from the job's post to its due time. */
    delay: number;
    timestamp: number;
    attemptsMade: number;
    /** The stack traces of the job's errors in this process, because Drover stores no stack traces. */
    stacktrace: string[] = [];
    returnvalue: any;
    failedReason?: string | undefined;
    processedOn?: number | undefined;
    finishedOn?: number | undefined;
    /**
     * A signal that Bull does not have: the signal of a running handler is aborted when the lease is lost, when the job is cancelled, and
     * when the job's `timeout` is over.
     */
    abortSignal?: AbortSignal | undefined;
    #progress: unknown;
    /** The progress that was reported last. */
    #newest: { stored: Promise<void>; value: unknown; reported: Promise<void> } | undefined;
    #isDiscarded = false;
    readonly #source: DroverJob<T> | undefined;

    /** @internal Applications do not construct jobs, but get jobs from methods such as `queue.add` and `queue.getJob`. */
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

    /** Replaces the data of a job that was never leased. */
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

    /** Has no effect except a warning at the first call, because Drover keeps no logs of jobs. */
    async log(_row: string): Promise<any> {
        warnOnce("job.log", "job.log() has no effect: Drover keeps no logs of jobs; report job.progress(value), or use your own log");
        return 0;
    }

    /**
     * Reads the state of the job, and updates the job's result and other changing fields. A waiting job of a paused queue has the state
     * `paused`, and a forgotten job has the state `stuck`.
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

    /** Waits until the job has finished. Returns the job's result, or throws an error with the text of the job's failure. */
    async finished(): Promise<any> {
        try {
            return await this.#drover.waitUntilFinished();
        } finally {
            this.#refresh(this.#drover);
        }
    }

    /** Makes a failed job ready again, with all its attempts. */
    async retry(): Promise<void> {
        await this.#drover.retry();
        this.failedReason = undefined;
        this.finishedOn = undefined;
        this.processedOn = undefined;
    }

    /** Makes a delayed job ready now. */
    async promote(): Promise<void> {
        await this.#drover.promote();
    }

    /** Deletes the job from Drover. The job must not be active. */
    async remove(): Promise<void> {
        await this.#drover.remove();
        this.queue.emit("removed", this);
    }

    /** Makes the job fail for good if the running attempt fails. `discard` is possible only inside the job's handler. */
    async discard(): Promise<void> {
        this.#drover.discard();
        this.#isDiscarded = true;
    }

    /**
     * Completes the job at once; `moveToCompleted` is possible only inside the job's handler. A value that the handler returns later, or an
     * error that it throws later, changes nothing. Bull's other arguments have no effect, and the method never returns a next job.
     */
    async moveToCompleted(returnValue?: any, _ignoreLock?: boolean, _notFetch?: boolean): Promise<[any, JobId] | null> {
        await this.#drover.moveToCompleted(returnValue ?? null);
        return null;
    }

    /**
     * Fails the running attempt at once; `moveToFailed` is possible only inside the job's handler. Another attempt follows if attempts are
     * left.
     */
    async moveToFailed(errorInfo: { message: string }, _ignoreLock?: boolean): Promise<[any, JobId] | null> {
        await this.#drover.moveToFailed(errorInfo instanceof Error ? errorInfo : new Error(errorInfo?.message ?? "Unknown reason"));
        return null;
    }

    /** Has no effect, because the worker extends the job's lease while the handler runs. */
    async extendLock(_duration: number): Promise<number> {
        return 1;
    }

    /** @deprecated Throws an error: Drover does not have this method of Bull's job. */
    lockKey(): string {
        throw unsupported(JOB_METHODS, "lockKey", "job.");
    }

    /** @deprecated Throws an error: Drover does not have this method of Bull's job. */
    async takeLock(): Promise<number | false> {
        throw unsupported(JOB_METHODS, "takeLock", "job.");
    }

    /** @deprecated Throws an error: Drover does not have this method of Bull's job. */
    async releaseLock(): Promise<void> {
        throw unsupported(JOB_METHODS, "releaseLock", "job.");
    }

    /** Returns the fields of Bull's job, which `JSON.stringify` writes. */
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

/** Converts a job of drover-client to Bull's job. `opts` are the options with which the job was added, if the options are known. */
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

/** As in Bull, `attemptsMade` does not count the attempt that completed the job. */
export function failedAttemptsOf({ state, attemptsMade }: DroverJob<any>): number {
    return state === "completed" ? Math.max(0, attemptsMade - 1) : attemptsMade;
}

/** Returns the options of a job that the fields of its message in Drover contain: all options except `backoff`. */
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
