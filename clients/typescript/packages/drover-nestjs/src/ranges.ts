/** Bull's ranges of jobs, `start` to `end` of a state, read from Drover's lists page by page. */
import type { Job as DroverJob, Queue as DroverQueue } from "drover-client";

import type { JobStatus, JobStatusClean } from "./types.js";

/** The states that have lists in Drover. */
export type ListedState = "waiting" | "active" | "delayed" | "completed" | "failed";
export type StateName = JobStatus | JobStatusClean;

/** One call reads at most this many jobs, so that a long queue does not fill the memory. */
const MOST = 100_000;
const PAGE = 1_000;

/** Drover lists finished jobs from the last one, and the others from the first one, as Bull's getters do. */
const NEWEST_FIRST: ReadonlySet<ListedState> = new Set<ListedState>(["completed", "failed"]);

/** Returns the names of states in Bull's calls as a list: `"completed,failed"`, an array, or several arguments. */
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
        if (found.length >= MOST) {
            throw new RangeError(
                `the queue ${queue.name} has more than ${MOST} ${state} jobs: read a range with start and end, ` +
                    (NEWEST_FIRST.has(state) ? "the newest first" : "in ascending order"),
            );
        }
        const page = await queue.listJobs(state, { limit: Math.min(PAGE, count - found.length), cursor });
        found.push(...page.jobs);
        cursor = page.nextCursor;
        if (cursor === undefined) {
            break;
        }
    }
    return found;
}
