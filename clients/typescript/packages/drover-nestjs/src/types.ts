/** The types of Bull's API that are not classes. Names and meanings are Bull's, so that an application only changes its imports. */
import type { Job } from "./job.js";

export type JobId = number | string;

export type JobStatus = "completed" | "waiting" | "active" | "delayed" | "failed" | "paused";
export type JobStatusClean = "completed" | "wait" | "active" | "delayed" | "failed" | "paused";

export type DoneCallback = (error?: Error | null, value?: any) => void;
export type ProcessCallbackFunction<T = any> = (job: Job<T>, done: DoneCallback) => void;
export type ProcessPromiseFunction<T = any> = (job: Job<T>) => Promise<any>;

/** At most `max` jobs in each `duration` of milliseconds: the queue's `rate_limit`, which holds for all processes. */
export interface RateLimiter {
    max: number;
    /** Milliseconds. */
    duration: number;
    /** Without effect: in Drover, jobs beyond the limit always stay waiting. */
    bounceBack?: boolean | undefined;
    /** @deprecated An error: add the jobs with `group`, which limits how many jobs of a key run at once. */
    groupKey?: string | undefined;
}

export interface AdvancedSettings {
    /** The visibility timeout of leases, in milliseconds: after this time, the jobs of a killed process are given to another one. */
    lockDuration?: number | undefined;
    /** How often the process of a job may die before the job fails: the queue's `max_lapses` becomes this number plus 1. */
    maxStalledCount?: number | undefined;
    /** Without effect: leases are extended each third of `lockDuration`. */
    lockRenewTime?: number | undefined;
    /** Without effect: Drover notices a lapsed lease by itself. */
    stalledInterval?: number | undefined;
    /** Without effect: Drover tells a worker when a job is due. */
    guardInterval?: number | undefined;
    /** Without effect: a worker waits 0.1 s to 5 s after an error. */
    retryProcessDelay?: number | undefined;
    /** Without effect. */
    drainDelay?: number | undefined;
    /** @deprecated An error, unless empty. */
    backoffStrategies?: Record<string, (attemptsMade: number, error: Error, options?: any) => number> | undefined;
}

/** How a queue reaches Drover, and its settings. */
export interface QueueOptions {
    /** The address of Drover's API. Default: the environment's `DROVER_URL`, then `http://127.0.0.1:8080`. */
    url?: string | undefined;
    /** The API key. Default: the environment's `DROVER_KEY`. */
    key?: string | undefined;
    /** For how many milliseconds a request is tried again while the API is away. Default: 30,000. */
    timeout?: number | undefined;
    limiter?: RateLimiter | undefined;
    defaultJobOptions?: JobOptions | undefined;
    settings?: AdvancedSettings | undefined;
    /** For how many milliseconds a closing queue waits for its handlers, before it releases their jobs. Default: 30,000. */
    closeTimeout?: number | undefined;
}

export interface BackoffOptions {
    /** `fixed` or `exponential`. */
    type: string;
    /** Milliseconds. */
    delay?: number | undefined;
    /** @deprecated An error: options are for strategies of your own. */
    options?: any;
}

export interface RepeatOptions {
    /** The time zone of `cron`. Default: the zone of this process. */
    tz?: string | undefined;
    endDate?: Date | string | number | undefined;
    /** After so many jobs, the repetition ends. */
    limit?: number | undefined;
    /** @deprecated An error. */
    count?: number | undefined;
}

export interface CronRepeatOptions extends RepeatOptions {
    cron: string;
    startDate?: Date | string | number | undefined;
}

export interface EveryRepeatOptions extends RepeatOptions {
    /** Milliseconds, at least 1,000. */
    every: number;
}

export interface KeepJobsOptions {
    /** Seconds. */
    age?: number | undefined;
    count?: number | undefined;
}

export interface DebounceOptions {
    ttl?: number;
    id: string;
}

export interface JobOptions {
    /** 1 is the highest priority. Jobs without a priority come last. */
    priority?: number | undefined;
    /** Milliseconds. */
    delay?: number | undefined;
    /** How often the job is tried. Default: 1, as in Bull. */
    attempts?: number | undefined;
    /** The pause before another attempt: milliseconds, or a strategy. Default: none. */
    backoff?: number | BackoffOptions | undefined;
    repeat?: ((CronRepeatOptions | EveryRepeatOptions) & { readonly key?: string }) | undefined;
    /** Milliseconds after which the run fails. */
    timeout?: number | undefined;
    jobId?: JobId | undefined;
    /** In `defaultJobOptions`: the queue's retention of completed jobs. Ignored, with a warning, in one job's options. */
    removeOnComplete?: boolean | number | KeepJobsOptions | undefined;
    /** In `defaultJobOptions`: the queue's retention of failed jobs. Ignored, with a warning, in one job's options. */
    removeOnFail?: boolean | number | KeepJobsOptions | undefined;
    /** Without effect: Drover stores no stack traces. */
    stackTraceLimit?: number | undefined;
    /** Drover's addition: jobs of a group start in the order of posting, one at a time unless the queue's settings permit more. */
    group?: string | undefined;
    /** Drover's addition: a job not started after so many milliseconds fails. */
    ttl?: number | undefined;
    /** Drover's addition: texts beside the data. */
    headers?: Record<string, string> | undefined;
    /** @deprecated An error, unless false. */
    lifo?: boolean | undefined;
    /** @deprecated An error. */
    debounce?: DebounceOptions;
    /** @deprecated An error, unless false. */
    preventParsingData?: boolean | undefined;
}

/** A job for `addBulk`. */
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
    /** The waiting jobs, while the queue is paused. */
    paused?: number;
}

export interface JobInformation {
    /** Names the repetition in `removeRepeatableByKey`: the name of Drover's schedule. */
    key: string;
    name: string;
    id?: string | undefined;
    endDate?: number | undefined;
    tz?: string | undefined;
    cron: string;
    every: number;
    /** The next tick, in milliseconds since 1970. */
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
    /** Makes the attempt fail; the handler goes on. */
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
