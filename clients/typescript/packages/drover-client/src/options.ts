/** The options of jobs, and their conversion to fields of the API. */
import type { components } from "./generated/api.js";

type Schemas = components["schemas"];

/** A duration: a whole number of milliseconds, or a text such as `"1h 30m"` with the units ms, s, m, h, d and w. */
export type Duration = number | string;

export interface BackoffOptions {
    /** `fixed`: each pause is `delay`; `exponential`: the pauses double, beginning with `delay`. */
    type: "fixed" | "exponential";
    /** The pause after the first failed attempt. */
    delay?: Duration | undefined;
    /** The largest share (0 to 1) by which a pause is shortened at random; default 0. */
    jitter?: number | undefined;
    /** The longest pause between two attempts. */
    max?: Duration | undefined;
}

export interface JobOptions {
    /**
     * An id of your choice, with at least one character that is not a digit. While a job with the id exists, another `add` with the id
     * stores nothing and returns the existing job.
     */
    jobId?: string | undefined;
    /** The time until the job may start. */
    delay?: Duration | undefined;
    /** The instant before which the job may not start. A job has either `deliverAt` or `delay`. */
    deliverAt?: Date | string | number | undefined;
    /** The priority, from −2097152 to 2097152; default 0. Jobs with lower numbers start first. */
    priority?: number | undefined;
    /** The maximum number of attempts; default: the queue's setting (3). */
    attempts?: number | undefined;
    /** The pause before another attempt: a fixed time, or a rule; default: the queue's setting. */
    backoff?: number | BackoffOptions | undefined;
    /** The maximum duration of a run of the job's handler. */
    timeout?: Duration | undefined;
    /** The time after the post within which the job must start. A job that has not started by then fails with the code `expired`. */
    ttl?: Duration | undefined;
    /** The key of a signal: the job does not start before `queue.signal(key)` is called. */
    hold?: string | undefined;
    /**
     * The group of the job. The jobs of a group start in the order in which they were posted, one at a time unless the queue's settings
     * permit more.
     */
    group?: string | undefined;
    /** Texts by name, which the job has in addition to its data. */
    headers?: Record<string, string> | undefined;
    /** A key by which the API recognizes a repeated `add` of the same job, and then stores nothing; default: a random key. */
    idempotencyKey?: string | undefined;
}

/** The advice in the error about an option of Bull or BullMQ that Drover does not have. */
const ADVICE: Record<string, string> = {
    removeOnComplete: "use queue.updateSettings({ retention: { completed: { age, count } } })",
    removeOnFail: "use queue.updateSettings({ retention: { failed: { age, count } } })",
    repeat: "use queue.upsertJobScheduler(id, { every } or { pattern, tz }, { name, data })",
    deduplication: "use jobId, or idempotencyKey",
    debounce: "use jobId, or idempotencyKey",
    lifo: "use priority: lower numbers start first",
    parent: "Drover has no flows: add the next job in the handler, or use hold and queue.signal(key)",
    keepLogs: "Drover keeps no logs of jobs",
    stackTraceLimit: "Drover keeps the message of an error, not its stack",
    sizeLimit: "the API limits the size of a request (api.body_limit)",
    timestamp: "Redis's clock sets the time of a job",
    preventParsingData: "the client always parses data",
    telemetry: "use headers",
};

const KNOWN_OPTIONS = new Set([
    ...["jobId", "delay", "deliverAt", "priority", "attempts", "backoff", "timeout", "ttl", "hold", "group", "headers"],
    "idempotencyKey",
]);

/** Throws an error if an option is unknown, because a silently ignored option would be noticed too late. */
export function checkJobOptions(options: JobOptions): void {
    for (const [option, value] of Object.entries(options)) {
        if (value !== undefined && !KNOWN_OPTIONS.has(option)) {
            throw new TypeError(`${option}: ${ADVICE[option] ?? "unknown option of a job"}`);
        }
    }
}

/** Converts the options of a job to the fields of the API's message, without `data` and `name`. */
export function toMessageOptions(options: JobOptions): Omit<Schemas["NewMessage"], "data" | "name"> {
    checkJobOptions(options);
    const { jobId, delay, deliverAt, priority, attempts, backoff, timeout, ttl, hold, group, headers } = options;
    return {
        ...defined("id", jobId),
        ...defined("delay", delay),
        ...defined("deliver_at", deliverAt === undefined ? undefined : toInstant("deliverAt", deliverAt)),
        ...defined("priority", priority),
        ...defined("max_attempts", attempts),
        ...defined("backoff", backoff === undefined ? undefined : toBackoff(backoff)),
        ...defined("timeout", timeout),
        ...defined("ttl", ttl),
        ...defined("hold", hold),
        ...defined("group", group),
        ...defined("headers", headers),
    };
}

/** Returns an object with one field, or an empty object if the value of the field is undefined. */
export function defined<K extends string, V>(field: K, value: V | undefined): { [P in K]?: V } {
    return value === undefined ? {} : ({ [field]: value } as { [P in K]?: V });
}

/** Converts an instant to a text in the format of RFC 3339. */
export function toInstant(option: string, value: Date | string | number): string {
    const date = new Date(value);
    if (Number.isNaN(date.getTime())) {
        throw new TypeError(`${option}: not an instant: give a Date, or a text like 2030-01-31T00:00:00Z`);
    }
    return date.toISOString();
}

/** Converts a back-off to the field of the API. As in Bull, pauses have no jitter by default, although the API's own default is 0.2. */
function toBackoff(backoff: number | BackoffOptions): NonNullable<Schemas["NewMessage"]["backoff"]> {
    if (typeof backoff === "number") {
        return { type: "fixed", delay: backoff, jitter: 0 };
    }
    const { type, delay, jitter = 0, max, ...others } = backoff;
    const [other] = Object.keys(others);
    if (other !== undefined) {
        throw new TypeError(`backoff.${other}: unknown: backoff has type, delay, jitter and max`);
    }
    return { type, jitter, ...defined("delay", delay), ...defined("max", max) };
}
