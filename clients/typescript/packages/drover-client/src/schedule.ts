/** Schedules: rules by which Drover posts jobs over time. BullMQ calls a schedule a job scheduler. */
import type { Schemas } from "./api.js";
import { type Duration, type JobOptions, defined, toInstant, toMessageOptions } from "./options.js";

/** The rule of a schedule, which has either `every` or `pattern`. */
export interface ScheduleRule {
    /** The interval between two ticks: 1 s or more. The ticks are the multiples of the interval since 1970, plus `offset`. */
    every?: Duration | undefined;
    offset?: Duration | undefined;
    /** A cron pattern of five fields, or of six fields with the seconds first. */
    pattern?: string | undefined;
    /** The time zone of `pattern`, such as `Europe/Berlin`; default `UTC`. */
    tz?: string | undefined;
    startDate?: Date | string | number | undefined;
    endDate?: Date | string | number | undefined;
    /** The number of jobs after which the schedule ends. */
    limit?: number | undefined;
    /** What happens to missed ticks: `skip`, `one` (default) or `all`. */
    missed?: "skip" | "one" | "all" | undefined;
    /** Whether a tick posts a job while the job of an earlier tick is unfinished: `allow` (default), or `skip`, which omits the tick. */
    overlap?: "allow" | "skip" | undefined;
}

export interface ScheduleTemplate<Data = unknown> {
    name?: string | undefined;
    data?: Data | undefined;
    opts?: Omit<JobOptions, "jobId" | "delay" | "deliverAt" | "idempotencyKey"> | undefined;
}

/** A schedule: its rule, with the names of fields that BullMQ uses, and its state. */
export interface Schedule<Data = unknown> {
    id: string;
    name: string;
    data: Data;
    pattern: string | undefined;
    tz: string | undefined;
    every: number | undefined;
    offset: number | undefined;
    startDate: number | undefined;
    endDate: number | undefined;
    limit: number | undefined;
    missed: "skip" | "one" | "all";
    overlap: "allow" | "skip";
    paused: boolean;
    /** The instant of the next tick, in ms since 1970. */
    next: number | undefined;
    /** The instants of the next ticks, in ms since 1970. */
    nextTicks: number[];
    /** The id of the job that the schedule posted last. */
    lastJobId: string | undefined;
    /** The number of jobs that the schedule has posted. */
    iterationCount: number;
    /** The schedule as the API describes it. */
    schedule: Schemas["Schedule"];
}

const ADVICE: Record<string, string> = {
    immediately: "add one job beside the schedule",
    cron: "use `pattern`",
    utc: "use `tz`; the default is UTC",
    jobId: "the id of the schedule identifies it",
    count: "Drover counts: see iterationCount",
};

const KNOWN_OPTIONS = ["every", "offset", "pattern", "tz", "startDate", "endDate", "limit", "missed", "overlap"];

export function toNewSchedule(rule: ScheduleRule, template: ScheduleTemplate): Schemas["NewSchedule"] {
    for (const [option, value] of Object.entries(rule)) {
        if (value !== undefined && !KNOWN_OPTIONS.includes(option)) {
            throw new TypeError(`${option}: ${ADVICE[option] ?? "unknown option of a schedule"}`);
        }
    }
    const { every, offset, pattern, tz, startDate, endDate, limit, missed, overlap } = rule;
    const { name, data, opts } = template;
    for (const option of ["jobId", "delay", "deliverAt", "idempotencyKey"]) {
        if (opts !== undefined && option in opts && (opts as Record<string, unknown>)[option] !== undefined) {
            throw new TypeError(`${option}: not an option of a schedule's jobs`);
        }
    }
    return {
        ...defined("every", every),
        ...defined("offset", offset),
        ...defined("cron", pattern),
        ...defined("timezone", tz),
        ...defined("start_at", startDate === undefined ? undefined : toInstant("startDate", startDate)),
        ...defined("end_at", endDate === undefined ? undefined : toInstant("endDate", endDate)),
        ...defined("max_runs", limit),
        ...defined("missed", missed),
        ...defined("overlap", overlap),
        message: { ...toMessageOptions(opts ?? {}), ...defined("name", name || undefined), data: data ?? null },
    };
}

export function fromSchedule<Data>(schedule: Schemas["Schedule"]): Schedule<Data> {
    const nextTicks = schedule.next_at.map((instant) => Date.parse(instant));
    return {
        id: schedule.name,
        name: schedule.message.name ?? "",
        data: schedule.message.data as Data,
        pattern: schedule.cron ?? undefined,
        tz: schedule.timezone ?? undefined,
        every: schedule.every ?? undefined,
        offset: schedule.offset ?? undefined,
        startDate: schedule.start_at ? Date.parse(schedule.start_at) : undefined,
        endDate: schedule.end_at ? Date.parse(schedule.end_at) : undefined,
        limit: schedule.max_runs ?? undefined,
        missed: schedule.missed,
        overlap: schedule.overlap,
        paused: schedule.paused,
        next: nextTicks[0],
        nextTicks,
        lastJobId: schedule.last_message ?? undefined,
        iterationCount: schedule.runs,
        schedule,
    };
}
