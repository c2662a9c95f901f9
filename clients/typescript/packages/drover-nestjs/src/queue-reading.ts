/** The methods of Bull's queue that read jobs, counts and repetitions. */
import type { Queue as DroverQueue } from "drover-client";

import { possibleIds } from "./ids.js";
import { type Job, toJob } from "./job.js";
import type { Queue } from "./queue.js";
import { type ListedState, readRange, stateNames, type StateName } from "./ranges.js";
import { UnsupportedMethods } from "./queue-unsupported.js";
import { toInformation } from "./repeat.js";
import type { JobCounts, JobId, JobInformation, JobStatus } from "./types.js";

type Counts = JobCounts & { paused: number };

export abstract class QueueReader<T = any> extends UnsupportedMethods<T> {
    readonly name: string;
    /** The queue of drover-client, for operations that Bull does not have. */
    readonly drover: DroverQueue<T>;

    protected constructor(drover: DroverQueue<T>) {
        // With `captureRejections`, a rejected promise of a listener causes the event `error`, and does not end the process.
        super({ captureRejections: true });
        this.drover = drover;
        this.name = drover.name;
    }

    /** Reads a job; null if the job does not exist or is forgotten. */
    async getJob(jobId: JobId): Promise<Job<T> | null> {
        for (const id of jobId === undefined || jobId === null || jobId === "" ? [] : possibleIds(jobId)) {
            const job = await this.drover.getJob(id);
            if (job) {
                return this.#wrap(job);
            }
        }
        return null;
    }

    getWaiting(start?: number, end?: number): Promise<Array<Job<T>>> {
        return this.getJobs(["waiting"], start, end, true);
    }

    getActive(start?: number, end?: number): Promise<Array<Job<T>>> {
        return this.getJobs(["active"], start, end, true);
    }

    getDelayed(start?: number, end?: number): Promise<Array<Job<T>>> {
        return this.getJobs(["delayed"], start, end, true);
    }

    /** Reads completed jobs, the job that completed last first. */
    getCompleted(start?: number, end?: number): Promise<Array<Job<T>>> {
        return this.getJobs(["completed"], start, end, false);
    }

    /** Reads failed jobs, the job that failed last first. */
    getFailed(start?: number, end?: number): Promise<Array<Job<T>>> {
        return this.getJobs(["failed"], start, end, false);
    }

    /** Reads the jobs at the positions `start` to `end` in the list of each state, at most 100,000 jobs in one call. */
    async getJobs(types: JobStatus[] | JobStatus, start?: number, end?: number, asc = false): Promise<Array<Job<T>>> {
        const found: Array<Job<T>> = [];
        for (const state of await this.#listedStates(types)) {
            const jobs = await readRange(this.drover, state, { start, end, asc });
            found.push(...jobs.map((job) => this.#wrap(job)));
        }
        return found;
    }

    async getJobCounts(): Promise<JobCounts> {
        return this.#counts();
    }

    /** Returns the number of jobs in these states. */
    async getJobCountByTypes(...types: Array<JobStatus[] | JobStatus>): Promise<number> {
        return this.#count(types);
    }

    /** Returns the number of waiting and delayed jobs. */
    count(): Promise<number> {
        return this.#count(["waiting", "paused", "delayed"]);
    }

    getCompletedCount(): Promise<number> {
        return this.#count(["completed"]);
    }

    getFailedCount(): Promise<number> {
        return this.#count(["failed"]);
    }

    getDelayedCount(): Promise<number> {
        return this.#count(["delayed"]);
    }

    getWaitingCount(): Promise<number> {
        return this.#count(["waiting", "paused"]);
    }

    getPausedCount(): Promise<number> {
        return this.#count(["paused"]);
    }

    getActiveCount(): Promise<number> {
        return this.#count(["active"]);
    }

    /** Reads the repetitions; the repetition whose next job comes last is the first one. */
    async getRepeatableJobs(start = 0, end = -1, asc = false): Promise<JobInformation[]> {
        const schedules = await this.drover.getJobSchedulers();
        const all = schedules.map(({ schedule }) => toInformation(schedule as never));
        all.sort((a, b) => (a.next - b.next) * (asc ? 1 : -1));
        return all.slice(start, end === -1 ? undefined : end + 1);
    }

    async getRepeatableCount(): Promise<number> {
        return (await this.drover.getJobSchedulers()).length;
    }

    async #count(types: ReadonlyArray<StateName | readonly StateName[]>): Promise<number> {
        const counts = await this.#counts();
        const names = stateNames(types).map((name) => (name === "wait" ? "waiting" : name));
        const counted = names.length === 0 ? (Object.keys(counts) as Array<keyof Counts>) : [...new Set(names)];
        return counted.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
    }

    /** Counts the jobs by state. As in Bull, the waiting jobs of a paused queue count as `paused`. */
    async #counts(): Promise<Counts> {
        const [{ active, completed, failed, delayed, waiting }, isPaused] = await this.#status();
        const [ready, paused] = isPaused ? [0, waiting] : [waiting, 0];
        return { waiting: ready, active, completed, failed, delayed, paused };
    }

    async #status(): Promise<[Record<ListedState, number>, boolean]> {
        const none = { waiting: 0, active: 0, completed: 0, failed: 0, delayed: 0 };
        const status = await withoutQueue(() => this.drover.status(), undefined);
        return [status ? status.counts : none, status?.paused ?? false];
    }

    async #listedStates(types: StateName | StateName[]): Promise<ListedState[]> {
        const names = new Set(stateNames([types]));
        const asked = names.size > 0 ? names : new Set<StateName>(["waiting", "active", "completed", "failed", "delayed", "paused"]);
        const isWaitingAsked = asked.has("waiting") || asked.has("wait");
        // The names `waiting` and `paused` mean the same list of Drover. A caller who asks for `paused` without `waiting` gets an empty
        // list unless the queue is paused.
        if (asked.has("paused") && !isWaitingAsked && !(await this.drover.isPaused())) {
            asked.delete("paused");
        }
        const states = [...asked].map((name): ListedState => (name === "wait" || name === "paused" ? "waiting" : name));
        return [...new Set(states)];
    }

    #wrap(job: Parameters<typeof toJob<T>>[1]): Job<T> {
        return toJob(this as unknown as Queue<T>, job);
    }
}

/** Runs a call of the API, and returns `otherwise` if the queue does not exist yet. */
export async function withoutQueue<R, O>(call: () => Promise<R>, otherwise: O): Promise<R | O> {
    try {
        return await call();
    } catch (error) {
        if ((error as { code?: string }).code === "queue_not_found") {
            return otherwise;
        }
        throw error;
    }
}
