/** Converts the options of Bull's jobs to the options of drover-client, and the priority of a message to Bull's priority. */
import type { BackoffOptions as DroverBackoff, JobOptions as DroverJobOptions } from "drover-client";

import { toDroverId } from "./ids.js";
import type { JobOptions } from "./types.js";
import { JOB_OPTIONS, unsupported, UnsupportedError } from "./unsupported.js";

/** The lowest priority number of Drover, whose messages are leased first. */
const LOWEST_DROVER_PRIORITY = -2_097_152;
/**
 * The largest priority number of Bull that has a Drover number of its own. Larger numbers share one place, before the jobs without a
 * priority.
 */
const LAST_PRIORITY = 2_097_152;
/** The longest pause between attempts that Drover accepts. */
const LONGEST_PAUSE = 30 * 24 * 3_600_000;

const KNOWN_OPTIONS: ReadonlySet<string> = new Set<keyof JobOptions>([
    ...(["priority", "delay", "attempts", "backoff", "repeat", "timeout", "jobId", "removeOnComplete", "removeOnFail"] as const),
    ...(["stackTraceLimit", "group", "ttl", "headers"] as const),
]);
/** The options of Bull that are accepted if they are false, because false asks for Drover's normal behaviour. */
const FALSE_IS_NORMAL: ReadonlySet<string> = new Set(["lifo", "preventParsingData"]);

/** Throws an error if an option of Bull is not supported by Drover, or is unknown. */
export function checkJobOptions(options: JobOptions): void {
    for (const [option, value] of Object.entries(options)) {
        if (value === undefined || value === null || KNOWN_OPTIONS.has(option) || (value === false && FALSE_IS_NORMAL.has(option))) {
            continue;
        }
        if (option in JOB_OPTIONS) {
            throw unsupported(JOB_OPTIONS, option, "opts.");
        }
        throw new UnsupportedError(`opts.${option}`, "neither Bull nor Drover has this option; put values of your own into data");
    }
}

/** Converts Bull's options of a job that is added now to the options of drover-client. */
export function toDroverOptions(options: JobOptions): DroverJobOptions {
    const { jobId, delay } = options;
    return {
        ...toMessageOptions(options),
        ...(jobId === undefined || jobId === null ? {} : { jobId: toDroverId(jobId) }),
        ...(delay ? { delay: toDelay(delay) } : {}),
    };
}

/** Converts Bull's options of the jobs of a repetition to the options of drover-client. */
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

/**
 * Converts Bull's back-off, whose pause is 0 by default. Exponential pauses are 1, 2, 4 … times `delay` in Drover, and 1, 3, 7 … times
 * `delay` in Bull.
 */
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
 * Converts Bull's priority to Drover's priority. Bull starts jobs of priority 1 first, and jobs without a priority last. Drover leases
 * lower numbers first, and the default is 0, so Bull's priorities become numbers below 0.
 */
export function toDroverPriority(priority: number): number {
    const number = Math.ceil(Number(priority));
    if (Number.isNaN(number) || number < 0) {
        throw new TypeError(`opts.priority is ${String(priority)}: the highest priority is 1, and a larger number is lower`);
    }
    return number === 0 ? 0 : LOWEST_DROVER_PRIORITY - 1 + Math.min(number, LAST_PRIORITY);
}

/** Converts Drover's priority to Bull's priority; undefined for a job without a priority. */
export function fromDroverPriority(priority: number): number | undefined {
    return priority < 0 ? priority - LOWEST_DROVER_PRIORITY + 1 : undefined;
}
