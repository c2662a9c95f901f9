/** Reads Bull's ranges of jobs (the jobs at the positions `start` to `end` of a state) from Drover's lists, page by page. */
import type { Job as DroverJob, Queue as DroverQueue } from "drover-client";

import type { JobStatus, JobStatusClean } from "./types.js";

/** The states of jobs that Drover can list. */
export type ListedState = "waiting" | "active" | "delayed" | "completed" | "failed";
export type StateName = JobStatus | JobStatusClean;

/** The maximum number of jobs that one call reads, so that the jobs of a long queue do not fill the memory. */
const MAX_JOBS_OF_A_CALL = 100_000;
const PAGE_SIZE = 1_000;

/**
 * The states whose jobs Drover lists from the last job to the first. Drover lists the jobs of all other states from the first job to the
 * last.
 */
const NEWEST_FIRST: ReadonlySet<ListedState> = new Set<ListedState>(["completed", "failed"]);

/** Returns a list of the states that a call of Bull names by a text (`"completed,failed"`), an array, or several arguments. */
export function stateNames(types: readonly (StateName | readonly StateName[] | undefined)[]): StateName[] {
    const names = types.flat().flatMap((names) => (names ?? "").split(",").map((name) => name.trim()));
    return names.filter((name) => name !== "").map(checkState);
}

function checkState(name: string): StateName {
    if (!["waiting", "wait", "active", "delayed", "completed", "failed", "paused"].includes(name)) {
        throw new TypeError(`"${name}" is not a state: the states are waiting, active, delayed, completed, failed and paused`);
    }
    return name as StateName;
}

/** Reads the jobs `start` to `end` (inclusive; negative numbers count from the end) of a state. */
export async function readRange<T>(
    queue: DroverQueue<T>,
    state: ListedState,
    { start = 0, end = -1, asc }: { start?: number | undefined; end?: number | undefined; asc: boolean },
): Promise<DroverJob<T>[]> {
    const isListedSo = NEWEST_FIRST.has(state) !== asc;
    if (isListedSo && start >= 0 && end >= 0) {
        return (await readUntil(queue, state, end + 1)).slice(start);
    }
    const all = await readUntil(queue, state, Infinity);
    if (!isListedSo) {
        all.reverse();
    }
    return all.slice(start, end === -1 ? undefined : end + 1);
}

async function readUntil<T>(queue: DroverQueue<T>, state: ListedState, count: number): Promise<DroverJob<T>[]> {
    const found: DroverJob<T>[] = [];
    let cursor: string | undefined;
    while (found.length < count) {
        if (found.length >= MAX_JOBS_OF_A_CALL) {
            throw new RangeError(
                `the queue ${queue.name} has more than ${MAX_JOBS_OF_A_CALL} ${state} jobs: read a range with start and end, ` +
                    (NEWEST_FIRST.has(state) ? "the newest first" : "in ascending order"),
            );
        }
        const page = await queue.listJobs(state, { limit: Math.min(PAGE_SIZE, count - found.length), cursor });
        found.push(...page.jobs);
        cursor = page.nextCursor;
        if (cursor === undefined) {
            break;
        }
    }
    return found;
}
