/** Options of jobs, and their translation into fields of the API. */
import type { components } from "./generated/api.js";

type Schemas = components["schemas"];

/** A time: a whole number of milliseconds, or a text such as `"1h 30m"` (ms, s, m, h, d, w). */
export type Duration = number | string;

export interface BackoffOptions {
    /** `fixed`: each pause is `delay`; `exponential`: the pauses double, beginning with `delay`. */
    type: "fixed" | "exponential";
    /** The first pause. */
    delay?: Duration | undefined;
    /** The share (0 to 1) of a pause by which it is shortened at random; default 0. */
    jitter?: number | undefined;
    /** The longest pause. */
    max?: Duration | undefined;
}

export interface JobOptions {
    /** An id of your own, not all digits. While the id is taken, another `add` with it stores nothing and returns the existing job. */
    jobId?: string | undefined;
    /** The time until the job may start. */
    delay?: Duration | undefined;
    /** The instant before which the job may not start, instead of `delay`. */
    deliverAt?: Date | string | number | undefined;
    /** Lower numbers start first: −2097152 to 2097152, default 0. */
    priority?: number | undefined;
    /** The number of attempts; default: the queue's setting (3). */
    attempts?: number | undefined;
    /** The pause before another attempt: a fixed time, or a rule; default: the queue's setting. */
    backoff?: number | BackoffOptions | undefined;
    /** The longest run. */
    timeout?: Duration | undefined;
    /** A job that has not started this long after its post fails with the code `expired`. */
    ttl?: Duration | undefined;
    /** The job waits for `queue.signal(hold)`. */
    hold?: string | undefined;
    /** Jobs of one group start in the order of posting, one at a time unless the queue's settings permit more. */
    group?: string | undefined;
    /** Texts beside the data. */
    headers?: Record<string, string> | undefined;
    /** A key by which a repeated `add` with equal content stores nothing more; default: a random key. */
    idempotencyKey?: string | undefined;
}

/** Advice for options of Bull and BullMQ that have no equal. */
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

const KNOWN = new Set([
    ...["jobId", "delay", "deliverAt", "priority", "attempts", "backoff", "timeout", "ttl", "hold", "group", "headers"],
    "idempotencyKey",
]);

/** Refuses unknown options: an option that is ignored silently would be noticed too late. */
export function checkJobOptions(options: JobOptions): void {
    for (const [option, value] of Object.entries(options)) {
        if (value !== undefined && !KNOWN.has(option)) {
            throw new TypeError(`${option}: ${ADVICE[option] ?? "unknown option of a job"}`);
        }
    }
}

/** Returns the fields of a message, without `data` and `name`, as the API expects them. */
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

/** Returns an object with the field, or an empty object if the value is undefined. */
export function defined<K extends string, V>(field: K, value: V | undefined): { [P in K]?: V } {
    return value === undefined ? {} : ({ [field]: value } as { [P in K]?: V });
}

/** Returns an instant as RFC 3339. */
export function toInstant(option: string, value: Date | string | number): string {
    const date = new Date(value);
    if (Number.isNaN(date.getTime())) {
        throw new TypeError(`${option}: not an instant: give a Date, or a text like 2030-01-31T00:00:00Z`);
    }
    return date.toISOString();
}

/** Returns a back-off. As in Bull, a pause has no jitter unless one is given; Drover's default is 0.2. */
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
