/** Bull's repetitions as Drover's schedules: `opts.repeat` becomes a schedule, whose name is derived from the options. */
import { createHash } from "node:crypto";

import type { CronRepeatOptions, EveryRepeatOptions, JobId, JobInformation } from "./types.js";
import { UnsupportedError } from "./unsupported.js";

export type Repeat = (CronRepeatOptions | EveryRepeatOptions) & { jobId?: JobId | undefined };

/** The header of a scheduled job that keeps the `jobId` of its repetition. */
const ID_HEADER = "repeat-job-id";
/** The name of the jobs whose producer gave no name, as in Bull. */
export const DEFAULT_JOB_NAME = "__default__";

/** The rule of a schedule, with the names of drover-client. */
export interface Rule {
    pattern?: string;
    tz?: string;
    every?: number;
    startDate?: Date;
    endDate?: Date;
    limit?: number;
}

/** The fields of a schedule that a repetition shows. */
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
 * Returns the name of the schedule. As in Bull, the name, `jobId`, `endDate`, `tz`, and `cron` or `every` identify a repetition; the
 * other options do not.
 */
export function scheduleName(name: string, repeat: Repeat): string {
    const { jobId, endDate, tz } = repeat;
    const end = endDate === undefined ? "" : toDate("endDate", endDate).getTime();
    const [cron, every] = "cron" in repeat && repeat.cron ? [repeat.cron, ""] : ["", "every" in repeat ? repeat.every : ""];
    const hash = createHash("sha256").update(JSON.stringify([name, jobId === undefined ? "" : String(jobId), end, tz ?? "", cron, every]));
    const start = name.replace(/[^A-Za-z0-9_.-]/g, "_").replace(/^[^A-Za-z0-9]+/, "").slice(0, 80);
    return `${start || "default"}:${hash.digest("hex").slice(0, 16)}`;
}

/** Returns the rule of the schedule. */
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

/** Returns the headers that keep the `jobId` of a repetition. */
export function toHeaders(jobId: JobId | undefined, headers: Record<string, string> = {}): Record<string, string> {
    return jobId === undefined ? headers : { ...headers, [ID_HEADER]: String(jobId) };
}

// Bull's types leave out that Bull answers null for what a repetition does not have.
const NONE = null as never;

/** Returns a schedule as Bull shows repetitions. */
export function toInformation(schedule: ScheduleFields): JobInformation {
    const { name: key, cron, timezone, every, end_at: end, next_at: next, message } = schedule;
    return {
        key,
        name: message.name ?? DEFAULT_JOB_NAME,
        id: message.headers?.[ID_HEADER] ?? NONE,
        endDate: end ? Date.parse(end) : NONE,
        tz: cron ? (timezone ?? NONE) : NONE,
        cron: cron ?? NONE,
        every: every ?? NONE,
        next: next[0] === undefined ? NONE : Date.parse(next[0]),
    };
}

function toDate(option: string, value: Date | string | number): Date {
    const date = new Date(value);
    if (Number.isNaN(date.getTime())) {
        throw new TypeError(`opts.repeat.${option} is no date: give a Date, milliseconds, or a text such as 2030-01-31T00:00:00Z`);
    }
    return date;
}
