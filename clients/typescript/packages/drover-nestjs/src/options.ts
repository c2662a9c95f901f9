/** Translates the options of Bull's jobs into those of drover-client, and the fields of messages back. */
import type { BackoffOptions as DroverBackoff, JobOptions as DroverJobOptions } from "drover-client";

import { toDroverId } from "./ids.js";
import type { JobOptions } from "./types.js";
import { JOB_OPTIONS, unsupported, UnsupportedError } from "./unsupported.js";

/** Drover's lowest number, which is leased first. */
const FIRST = -2_097_152;
/** Bull's priorities beyond this number share one place, before the jobs without a priority. */
const LAST_PRIORITY = 2_097_152;
/** Drover's longest pause between attempts. */
const LONGEST_PAUSE = 30 * 24 * 3_600_000;

const KNOWN: ReadonlySet<string> = new Set<keyof JobOptions>([
    ...(["priority", "delay", "attempts", "backoff", "repeat", "timeout", "jobId", "removeOnComplete", "removeOnFail"] as const),
    ...(["stackTraceLimit", "group", "ttl", "headers"] as const),
]);
/** Options that ask for Drover's normal behaviour when they are false. */
const FALSE_IS_NORMAL: ReadonlySet<string> = new Set(["lifo", "preventParsingData"]);

/** Refuses options that Drover does not have, and those that nobody knows. */
export function checkJobOptions(options: JobOptions): void {
    for (const [option, value] of Object.entries(options)) {
        if (value === undefined || value === null || KNOWN.has(option) || (value === false && FALSE_IS_NORMAL.has(option))) {
            continue;
        }
        if (option in JOB_OPTIONS) {
            throw unsupported(JOB_OPTIONS, option, "opts.");
        }
        throw new UnsupportedError(`opts.${option}`, "neither Bull nor Drover has this option; put values of your own into data");
    }
}

/** Returns drover-client's options for a job that is added now. */
export function toDroverOptions(options: JobOptions): DroverJobOptions {
    const { jobId, delay } = options;
    return {
        ...toMessageOptions(options),
        ...(jobId === undefined || jobId === null ? {} : { jobId: toDroverId(jobId) }),
        ...(delay ? { delay: toDelay(delay) } : {}),
    };
}

/** Returns drover-client's options for the jobs of a repetition. */
export function toMessageOptions(options: JobOptions): DroverJobOptions {
    checkJobOptions(options);
    const { priority, attempts, backoff, timeout, group, ttl, headers } = options;
    const tries = attempts === undefined || attempts === null ? 1 : Math.max(1, Math.trunc(Number(attempts)));
    return {
        attempts: tries,
        ...(tries > 1 ? { backoff: toBackoff(backoff) } : {}),
        ...(priority ? { priority: toDroverPriority(priority) } : {}),
        ...(timeout ? { timeout } : {}),
        ...(group === undefined ? {} : { group }),
        ...(ttl === undefined ? {} : { ttl }),
        ...(headers === undefined ? {} : { headers }),
    };
}

function toDelay(delay: number): number {
    const number = Math.round(Number(delay));
    if (Number.isNaN(number)) {
        throw new TypeError("opts.delay is not a number: give milliseconds");
    }
    return Math.max(0, number);
}

/** Bull's pause is nothing unless given. Drover doubles exponential pauses from `delay`; Bull's pauses are 1, 3, 7 … times `delay`. */
function toBackoff(backoff: JobOptions["backoff"]): DroverBackoff {
    if (backoff === undefined || backoff === null || typeof backoff === "number") {
        return { type: "fixed", delay: backoff ?? 0, jitter: 0 };
    }
    const { type, delay, options } = backoff;
    if ((type !== "fixed" && type !== "exponential") || options !== undefined) {
        const instead = "use fixed or exponential, or throw a RetryLaterError of drover-client in the handler to choose each pause";
        throw new UnsupportedError(options === undefined ? `opts.backoff.type "${type}"` : "opts.backoff.options", instead);
    }
    return { type, delay: delay ?? 0, jitter: 0, max: LONGEST_PAUSE };
}

/**
 * Bull's priority 1 comes first, and jobs without a priority last. Drover leases lower numbers first, and 0 is the default: so Bull's
 * priorities become the numbers below 0.
 */
export function toDroverPriority(priority: number): number {
    const number = Math.ceil(Number(priority));
    if (Number.isNaN(number) || number < 0) {
        throw new TypeError(`opts.priority is ${String(priority)}: the highest priority is 1, and a larger number is lower`);
    }
    return number === 0 ? 0 : FIRST - 1 + Math.min(number, LAST_PRIORITY);
}

/** Returns Bull's priority, or undefined for a job without one. */
export function fromDroverPriority(priority: number): number | undefined {
    return priority < 0 ? priority - FIRST + 1 : undefined;
}
