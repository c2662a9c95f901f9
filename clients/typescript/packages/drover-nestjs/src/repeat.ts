/**
 * Converts Bull's repetitions (`opts.repeat`) to schedules of Drover. The name of a schedule is derived from the options of the repetition.
 */
import { createHash } from "node:crypto";

import type { CronRepeatOptions, EveryRepeatOptions, JobId, JobInformation } from "./types.js";
import { UnsupportedError } from "./unsupported.js";

export type Repeat = (CronRepeatOptions | EveryRepeatOptions) & { jobId?: JobId | undefined };

/** The header of a scheduled job that keeps the `jobId` of its repetition. */
const ID_HEADER = "repeat-job-id";
/** The name that a job without a name has in Bull. */
export const DEFAULT_JOB_NAME = "__default__";

/** The rule of a schedule, with the names of fields that drover-client uses. */
export interface Rule {
    pattern?: string;
    tz?: string;
    every?: number;
    startDate?: Date;
    endDate?: Date;
    limit?: number;
}

/** The fields of a schedule from which Bull's information about a repetition is made. */
export interface ScheduleFields {
    name: string;
    cron?: string | null;
    timezone?: string | null;
    every?: number | null;
    end_at?: string | null;
    next_at: readonly string[];
    message: { name?: string | null; headers?: Record<string, string> | null };
}

/**
 * Returns the name of the schedule for a repetition. As in Bull, a repetition is identified by its name, `jobId`, `endDate`, `tz`, and
 * `cron` or `every`.
 */
export function scheduleName(name: string, repeat: Repeat): string {
    const { jobId, endDate, tz } = repeat;
    const end = endDate === undefined ? "" : toDate("endDate", endDate).getTime();
    const [cron, every] = "cron" in repeat && repeat.cron ? [repeat.cron, ""] : ["", "every" in repeat ? repeat.every : ""];
    const hash = createHash("sha256").update(JSON.stringify([name, jobId === undefined ? "" : String(jobId), end, tz ?? "", cron, every]));
    const start = name.replace(/[^A-Za-z0-9_.-]/g, "_").replace(/^[^A-Za-z0-9]+/, "").slice(0, 80);
    return `${start || "default"}:${hash.digest("hex").slice(0, 16)}`;
}

/** Converts the options of a repetition to the rule of a schedule. */
export function toRule(repeat: Repeat): Rule {
    const { cron, every } = repeat as { cron?: string; every?: number };
    const { endDate, limit, count } = repeat;
    if (cron && every) {
        throw new TypeError("opts.repeat has both cron and every: give one of them");
    }
    if (!cron && !every) {
        throw new TypeError("opts.repeat has neither cron nor every: give one of them");
    }
    if (count !== undefined) {
        throw new UnsupportedError("opts.repeat.count", "reduce limit by this number");
    }
    const startDate = "startDate" in repeat ? repeat.startDate : undefined;
    return {
        ...(cron ? { pattern: cron, tz: repeat.tz || Intl.DateTimeFormat().resolvedOptions().timeZone } : { every: Number(every) }),
        ...(startDate === undefined ? {} : { startDate: toDate("startDate", startDate) }),
        ...(endDate === undefined ? {} : { endDate: toDate("endDate", endDate) }),
        ...(limit === undefined ? {} : { limit }),
    };
}

/** Returns the headers of a scheduled job, with the `jobId` of the repetition in one of them. */
export function toHeaders(jobId: JobId | undefined, headers: Record<string, string> = {}): Record<string, string> {
    return jobId === undefined ? headers : { ...headers, [ID_HEADER]: String(jobId) };
}

// Bull returns null for absent fields of a repetition, although Bull's types do not say so.
const NO_VALUE = null as never;

/** Converts a schedule to Bull's information about a repetition. */
export function toInformation(schedule: ScheduleFields): JobInformation {
    const { name: key, cron, timezone, every, end_at: end, next_at: next, message } = schedule;
    return {
        key,
        name: message.name ?? DEFAULT_JOB_NAME,
        id: message.headers?.[ID_HEADER] ?? NO_VALUE,
        endDate: end ? Date.parse(end) : NO_VALUE,
        tz: cron ? (timezone ?? NO_VALUE) : NO_VALUE,
        cron: cron ?? NO_VALUE,
        every: every ?? NO_VALUE,
        next: next[0] === undefined ? NO_VALUE : Date.parse(next[0]),
    };
}

function toDate(option: string, value: Date | string | number): Date {
    const date = new Date(value);
    if (Number.isNaN(date.getTime())) {
        throw new TypeError(`opts.repeat.${option} is no date: give a Date, milliseconds, or a text such as 2030-01-31T00:00:00Z`);
    }
    return date;
}
