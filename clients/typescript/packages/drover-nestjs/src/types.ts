/**
 * The types of Bull's API that are not classes. The types have Bull's names and meanings, so that an application changes only its imports.
 */
import type { Job } from "./job.js";

export type JobId = number | string;

export type JobStatus = "completed" | "waiting" | "active" | "delayed" | "failed" | "paused";
export type JobStatusClean = "completed" | "wait" | "active" | "delayed" | "failed" | "paused";

export type DoneCallback = (error?: Error | null, value?: any) => void;
export type ProcessCallbackFunction<T = any> = (job: Job<T>, done: DoneCallback) => void;
export type ProcessPromiseFunction<T = any> = (job: Job<T>) => Promise<any>;

/**
 * The rate limit of a queue: at most `max` jobs start in any `duration` milliseconds, in all processes together (Drover's setting
 * `rate_limit`).
 */
export interface RateLimiter {
    max: number;
    /** The length of the window of the rate limit, in milliseconds. */
    duration: number;
    /** `bounceBack` has no effect, because in Drover jobs beyond the rate limit always stay waiting. */
    bounceBack?: boolean | undefined;
    /** @deprecated Causes an error. Add the jobs with `group` instead, which limits how many jobs of a key run at once. */
    groupKey?: string | undefined;
}

export interface AdvancedSettings {
    /** The visibility timeout of leases, in milliseconds. After this time, another process gets the jobs of a killed process. */
    lockDuration?: number | undefined;
    /**
     * The number of times that the process of a job may die before the job fails. The queue's setting `max_lapses` becomes this number plus
     * 1.
     */
    maxStalledCount?: number | undefined;
    /** `lockRenewTime` has no effect, because a lease is extended three times within `lockDuration`. */
    lockRenewTime?: number | undefined;
    /** `stalledInterval` has no effect, because Drover notices a lapsed lease by itself. */
    stalledInterval?: number | undefined;
    /** `guardInterval` has no effect, because Drover tells a worker when a job is due. */
    guardInterval?: number | undefined;
    /** `retryProcessDelay` has no effect, because a worker waits 0.1 s to 5 s after an error. */
    retryProcessDelay?: number | undefined;
    /** `drainDelay` has no effect. */
    drainDelay?: number | undefined;
    /** @deprecated Causes an error unless the object is empty. */
    backoffStrategies?: Record<string, (attemptsMade: number, error: Error, options?: any) => number> | undefined;
}

/** The options of a queue: the way to Drover's API, and the settings of the queue. */
export interface QueueOptions {
    /** The address of Drover's API. Default: the environment variable `DROVER_URL`, or `http://127.0.0.1:8080`. */
    url?: string | undefined;
    /** The API key. Default: the environment variable `DROVER_KEY`, or none. */
    key?: string | undefined;
    /** The time (ms) for which a request is repeated while the API is not available. Default: 30,000. */
    timeout?: number | undefined;
    limiter?: RateLimiter | undefined;
    defaultJobOptions?: JobOptions | undefined;
    settings?: AdvancedSettings | undefined;
    /** The time (ms) for which a closing queue waits for its handlers before it releases their jobs. Default: 30,000. */
    closeTimeout?: number | undefined;
}

export interface BackoffOptions {
    /** The type of the back-off: `fixed` or `exponential`. */
    type: string;
    /** The first pause of the back-off, in milliseconds. */
    delay?: number | undefined;
    /** @deprecated Causes an error, because Bull passes `options` only to the application's own back-off strategies. */
    options?: any;
}

export interface RepeatOptions {
    /** The time zone of `cron`. Default: the time zone of this process. */
    tz?: string | undefined;
    endDate?: Date | string | number | undefined;
    /** The number of jobs after which the repetition ends. */
    limit?: number | undefined;
    /** @deprecated Causes an error, because Drover does not support this option of Bull. */
    count?: number | undefined;
}

export interface CronRepeatOptions extends RepeatOptions {
    cron: string;
    startDate?: Date | string | number | undefined;
}

export interface EveryRepeatOptions extends RepeatOptions {
    /** The interval of the repetition in milliseconds, at least 1,000. */
    every: number;
}

export interface KeepJobsOptions {
    /** The age in seconds up to which finished jobs are kept. */
    age?: number | undefined;
    count?: number | undefined;
}

export interface DebounceOptions {
    ttl?: number;
    id: string;
}

export interface JobOptions {
    /** The priority of the job: 1 is the highest priority. Jobs without a priority start last. */
    priority?: number | undefined;
    /** The time from the job's post to its due time, in milliseconds. */
    delay?: number | undefined;
    /** The maximum number of attempts. Default: 1, as in Bull. */
    attempts?: number | undefined;
    /** The pause before another attempt, as milliseconds or as a strategy. Default: no pause. */
    backoff?: number | BackoffOptions | undefined;
    repeat?: ((CronRepeatOptions | EveryRepeatOptions) & { readonly key?: string }) | undefined;
    /** The time (ms) after which a run of the job fails. */
    timeout?: number | undefined;
    jobId?: JobId | undefined;
    /**
     * The queue's retention of completed jobs, if this option is in `defaultJobOptions`. In the options of one job, the option is ignored
     * with a warning.
     */
    removeOnComplete?: boolean | number | KeepJobsOptions | undefined;
    /**
     * The queue's retention of failed jobs, if this option is in `defaultJobOptions`. In the options of one job, the option is ignored with
     * a warning.
     */
    removeOnFail?: boolean | number | KeepJobsOptions | undefined;
    /** `stackTraceLimit` has no effect, because Drover stores no stack traces. */
    stackTraceLimit?: number | undefined;
    /**
     * An option that Bull does not have: the jobs of a group start in the order in which they were posted, one at a time unless the queue's
     * settings permit more.
     */
    group?: string | undefined;
    /** An option that Bull does not have: a job that has not started within this time (ms) after its post fails. */
    ttl?: number | undefined;
    /** An option that Bull does not have: texts by name, in addition to the job's data. */
    headers?: Record<string, string> | undefined;
    /** @deprecated Causes an error unless the value is false. */
    lifo?: boolean | undefined;
    /** @deprecated Causes an error, because Drover does not support this option of Bull. */
    debounce?: DebounceOptions;
    /** @deprecated Causes an error unless the value is false. */
    preventParsingData?: boolean | undefined;
}

/** A job that `addBulk` adds. */
export interface BulkJob<T = any> {
    name?: string | undefined;
    data: T;
    opts?: Omit<JobOptions, "repeat"> | undefined;
}

export interface JobCounts {
    active: number;
    completed: number;
    failed: number;
    delayed: number;
    waiting: number;
    /** The number of waiting jobs while the queue is paused. */
    paused?: number;
}

export interface JobInformation {
    /** The key of the repetition for `removeRepeatableByKey`, which is the name of the schedule in Drover. */
    key: string;
    name: string;
    id?: string | undefined;
    endDate?: number | undefined;
    tz?: string | undefined;
    cron: string;
    every: number;
    /** The instant of the next job, in milliseconds since 1970. */
    next: number;
}

export interface JobJson<T = any> {
    id: JobId;
    name: string;
    data: T;
    opts: JobOptions;
    progress: number;
    delay: number;
    timestamp: number;
    attemptsMade: number;
    failedReason: any;
    stacktrace: string[] | null;
    returnvalue: any;
    finishedOn: number | null;
    processedOn: number | null;
}

export interface JobPromise {
    /** Makes the attempt fail, although its handler continues to run. */
    cancel(): void;
}

export type EventCallback = () => void;
export type ErrorEventCallback = (error: Error) => void;
export type ActiveEventCallback<T = any> = (job: Job<T>, jobPromise?: JobPromise) => void;
export type StalledEventCallback<T = any> = (job: Job<T>) => void;
export type ProgressEventCallback<T = any> = (job: Job<T>, progress: any) => void;
export type CompletedEventCallback<T = any> = (job: Job<T>, result: any) => void;
export type FailedEventCallback<T = any> = (job: Job<T>, error: Error) => void;
export type CleanedEventCallback<T = any> = (jobs: Array<Job<T>>, status: JobStatusClean) => void;
export type RemovedEventCallback<T = any> = (job: Job<T>) => void;
export type WaitingEventCallback = (jobId: JobId) => void;
