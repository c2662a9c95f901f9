/** The class `Queue`, which adds, reads and changes the jobs of a queue, and manages the queue. */
import { randomUUID } from "node:crypto";

import { Api, type Message, type Schemas } from "./api.js";
import { DroverError, PartialBulkError } from "./errors.js";
import { type DroverOptions, Http } from "./http.js";
import { type Job, createJob, isForgotten } from "./job.js";
import { type Duration, type JobOptions, checkJobOptions, defined, toMessageOptions } from "./options.js";
import { type Schedule, type ScheduleRule, type ScheduleTemplate, fromSchedule, toNewSchedule } from "./schedule.js";

export interface QueueOptions extends DroverOptions {
    /** The options of jobs that are added without options of their own. */
    defaultJobOptions?: JobOptions | undefined;
}

export interface BulkJob<Data = unknown> {
    name: string;
    data: Data;
    opts?: JobOptions | undefined;
}

/** The states that a job can have while Drover keeps the job. */
export type KeptState = Schemas["State"];
export type JobCounts = Record<KeptState, number>;
export type QueueSettings = Schemas["Settings"];
export type QueueSettingsPatch = Schemas["SettingsPatch"];
export type QueueStatus = Schemas["Queue"];
export type StickySignal = Schemas["StickySignal"];

export interface ListOptions {
    /** The maximum number of jobs in a page: 1 to 1,000; default 50. */
    limit?: number | undefined;
    /** The `nextCursor` of the previous page. */
    cursor?: string | undefined;
    /** The name of the listed jobs; default: jobs of any name. */
    name?: string | undefined;
    /** The group of the listed jobs; default: jobs of any group. */
    group?: string | undefined;
    /** The hold key of the listed jobs, which are then only held jobs. */
    hold?: string | undefined;
}

export interface JobPage<Data = unknown, Result = unknown> {
    jobs: Job<Data, Result>[];
    /** The cursor of the next page; absent on the last page. */
    nextCursor: string | undefined;
}

/** The maximum number of jobs that one request adds. */
const MAX_BULK_JOBS = 1_000;
/** The maximum size of the jobs in one request, in bytes. The API's default limit is 1 MiB. */
const MAX_BULK_BYTES = 1_000_000;
/** The time limit (ms) of a request that changes all jobs of a state. */
const LONG_LIMIT = 600_000;

/** Returns the name of a queue, or throws an error if the name is invalid. */
export function checkQueueName(name: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$/.test(name)) {
        const rule = "1 to 128 characters of A-Z a-z 0-9 _ . : - and starts with a letter or digit";
        throw new TypeError(`${JSON.stringify(name)} is not the name of a queue: a name has ${rule}`);
    }
    return name;
}

export class Queue<Data = unknown, Result = unknown> {
    readonly name: string;
    readonly defaultJobOptions: JobOptions;
    readonly #http: Http;
    readonly #api: Api;

    constructor(name: string, options: QueueOptions = {}) {
        this.name = checkQueueName(name);
        this.defaultJobOptions = options.defaultJobOptions ?? {};
        checkJobOptions(this.defaultJobOptions);
        this.#http = new Http(options);
        this.#api = new Api(this.#http, name);
    }

    /** The address of the API. */
    get url(): string {
        return this.#http.url;
    }

    /**
     * Adds a job. The client repeats the request while the API is not available, and the job is stored only once. A job with an empty name
     * has no name. If a job with the same `jobId` exists, `add` returns the existing job, with `duplicate` true.
     */
    async add(name: string, data: Data, opts?: JobOptions): Promise<Job<Data, Result>> {
        const body = this.#newMessage(name, data, opts);
        const key = opts?.idempotencyKey ?? this.defaultJobOptions.idempotencyKey;
        const idempotencyKey = key ?? (body.id === undefined ? randomUUID() : undefined);
        const answer = await this.#api.call("post", "/v1/queues/{queue}/messages", { body, idempotencyKey });
        return createJob(this.#api, this.#whole(answer as Partial<Message>, body));
    }

    /**
     * Adds many jobs, in order. Each request has up to 1,000 jobs and 1 MB, of which all or none are stored. If a request after the first
     * one fails, `addBulk` throws a `PartialBulkError`.
     */
    async addBulk(jobs: readonly BulkJob<Data>[]): Promise<Job<Data, Result>[]> {
        const messages = jobs.map(({ name, data, opts }) => {
            if (opts?.idempotencyKey !== undefined) {
                throw new TypeError("idempotencyKey: not an option in addBulk, whose requests have keys of their own: use jobId");
            }
            return this.#newMessage(name, data, opts);
        });
        const added: Job<Data, Result>[] = [];
        try {
            for (const part of splitBulk(messages)) {
                await this.#addPart(part, added);
            }
        } catch (error) {
            throw added.length === 0 ? error : new PartialBulkError(added, error);
        }
        return added;
    }

    /** Reads a job; undefined if the job does not exist or is forgotten. */
    async getJob(id: string): Promise<Job<Data, Result> | undefined> {
        try {
            const message = await this.#api.call("get", "/v1/queues/{queue}/messages/{id}", { name: checkName("id", id) });
            return createJob(this.#api, message);
        } catch (error) {
            if (isForgotten(error)) {
                return undefined;
            }
            throw error;
        }
    }

    /** Reads one page of jobs, of one state or of all states. */
    async listJobs(state?: KeptState, options: ListOptions = {}): Promise<JobPage<Data, Result>> {
        const query = { ...defined("state", state), ...options };
        const page = await this.#orEmpty(() => this.#api.call("get", "/v1/queues/{queue}/messages", { query: query as never }));
        return {
            jobs: (page?.messages ?? []).map((message) => createJob<Data, Result>(this.#api, message)),
            nextCursor: page?.next_cursor ?? undefined,
        };
    }

    /** Returns the number of jobs in each of the given states, or in each state if no state is given. */
    async getJobCounts(...states: KeptState[]): Promise<JobCounts> {
        const status = await this.#orEmpty(() => this.status());
        const counts: JobCounts = { held: 0, delayed: 0, waiting: 0, active: 0, completed: 0, failed: 0, ...status?.counts };
        if (states.length === 0) {
            return counts;
        }
        return Object.fromEntries(states.map((state) => [state, counts[state]])) as JobCounts;
    }

    /** Reads the status of the queue: its counts, totals and settings, and whether the queue is paused. */
    status(): Promise<QueueStatus> {
        return this.#api.call("get", "/v1/queues/{queue}");
    }

    /** Pauses the queue for all workers; running handlers continue. `pause` creates the queue if it does not exist yet. */
    async pause(): Promise<void> {
        const pause = (): Promise<unknown> => this.#api.call("post", "/v1/queues/{queue}/pause");
        if ((await this.#orEmpty(pause)) === undefined) {
            // The API creates a queue only for a change that names a setting, so this request names `retention` without changing it.
            await this.updateSettings({ retention: {} });
            await pause();
        }
    }

    async resume(): Promise<void> {
        await this.#orEmpty(() => this.#api.call("post", "/v1/queues/{queue}/resume"));
    }

    async isPaused(): Promise<boolean> {
        return (await this.#orEmpty(() => this.status()))?.paused ?? false;
    }

    /** Makes all failed jobs ready again. Returns the number of these jobs. */
    async retryJobs(): Promise<number> {
        const answer = await this.#orEmpty(() => this.#api.call("post", "/v1/queues/{queue}/retry_failed", { limit: LONG_LIMIT }));
        return answer?.retried ?? 0;
    }

    /** Deletes all jobs of a state. Returns the number of deleted jobs. */
    async purge(state: Exclude<KeptState, "active">): Promise<number> {
        const query = { state };
        const answer = await this.#orEmpty(() => this.#api.call("post", "/v1/queues/{queue}/purge", { query, limit: LONG_LIMIT }));
        return answer?.purged ?? 0;
    }

    /** Reads the settings of the queue. */
    async settings(): Promise<QueueSettings> {
        return (await this.status()).settings;
    }

    /** Changes settings of the queue; null restores the default of a setting. The first change creates the queue. */
    async updateSettings(patch: QueueSettingsPatch): Promise<QueueSettings> {
        const contentType = "application/merge-patch+json";
        return (await this.#api.call("patch", "/v1/queues/{queue}", { body: patch, contentType })).settings;
    }

    /**
     * Releases the jobs that are held with this key, and returns their number. If an answer is lost, the returned number is that of the
     * repeated request.
     */
    async signal(key: string, options: { data?: unknown; stickyFor?: Duration | undefined } = {}): Promise<number> {
        const body = { ...defined("data", options.data), ...defined("sticky_for", options.stickyFor) };
        const name = checkName("key", key);
        return (await this.#api.call("post", "/v1/queues/{queue}/signals/{key}", { name, body: body as never })).released;
    }

    /** Creates or replaces a schedule. A definition that is equal to the existing one changes nothing. */
    async upsertJobScheduler(id: string, rule: ScheduleRule, template: ScheduleTemplate<Data> = {}): Promise<Schedule<Data>> {
        const opts = { ...scheduleDefaults(this.defaultJobOptions), ...template.opts };
        const body = toNewSchedule(rule, { ...template, opts });
        const name = checkName("id", id);
        return fromSchedule(await this.#api.call("put", "/v1/queues/{queue}/schedules/{name}", { name, body }));
    }

    /** Reads a schedule; undefined if the schedule does not exist. */
    async getJobScheduler(id: string): Promise<Schedule<Data> | undefined> {
        try {
            const name = checkName("id", id);
            return fromSchedule(await this.#api.call("get", "/v1/queues/{queue}/schedules/{name}", { name }));
        } catch (error) {
            if (error instanceof DroverError && (error.code === "schedule_not_found" || error.code === "queue_not_found")) {
                return undefined;
            }
            throw error;
        }
    }

    /** Reads all schedules of the queue, in the order of their ids. */
    async getJobSchedulers(): Promise<Schedule<Data>[]> {
        const schedules: Schedule<Data>[] = [];
        let cursor: string | undefined;
        do {
            const query = { limit: 1_000, ...defined("cursor", cursor) };
            const page = await this.#orEmpty(() => this.#api.call("get", "/v1/queues/{queue}/schedules", { query: query as never }));
            schedules.push(...(page?.schedules ?? []).map((schedule) => fromSchedule<Data>(schedule)));
            cursor = page?.next_cursor ?? undefined;
        } while (cursor !== undefined);
        return schedules;
    }

    /** Deletes a schedule; the jobs that the schedule posted stay. Returns whether the schedule existed. */
    async removeJobScheduler(id: string): Promise<boolean> {
        const isDone = ({ status }: DroverError): boolean => status === 404;
        try {
            await this.#api.call("delete", "/v1/queues/{queue}/schedules/{name}", { name: checkName("id", id), isDone });
            return true;
        } catch (error) {
            if (error instanceof DroverError && (error.code === "schedule_not_found" || error.code === "queue_not_found")) {
                return false;
            }
            throw error;
        }
    }

    /** Deletes the queue with all its jobs, settings and schedules. `confirm` must be the queue's name. */
    async delete({ confirm }: { confirm: string }): Promise<void> {
        const isDone = ({ code }: DroverError): boolean => code === "queue_not_found";
        await this.#api.call("delete", "/v1/queues/{queue}", { query: { confirm }, isDone, limit: LONG_LIMIT });
    }

    /** Ends the requests of `waitUntilFinished`, lets all other open requests end, and closes the connections. */
    close(): Promise<void> {
        return this.#http.close();
    }

    #newMessage(name: string, data: Data, opts: JobOptions | undefined): Schemas["NewMessage"] {
        const options = toMessageOptions({ ...this.#defaults(opts), ...withoutUndefined(opts ?? {}) });
        return { data: data ?? null, ...(name === "" ? {} : { name }), ...options };
    }

    /** Returns the default options without those that contradict a given option. */
    #defaults(opts: JobOptions | undefined): JobOptions {
        const { delay, deliverAt, ...others } = this.defaultJobOptions;
        const isTimed = opts?.delay !== undefined || opts?.deliverAt !== undefined;
        return isTimed ? others : { ...others, ...defined("delay", delay), ...defined("deliverAt", deliverAt) };
    }

    async #addPart(part: Schemas["NewMessage"][], added: Job<Data, Result>[]): Promise<void> {
        const body = { messages: part };
        try {
            const answer = await this.#api.call("post", "/v1/queues/{queue}/messages/batch", { body, idempotencyKey: randomUUID() });
            const entries = (answer as Schemas["PostedBatch"]).messages;
            for (const [index, entry] of entries.entries()) {
                added.push(createJob(this.#api, this.#whole(entry as Partial<Message>, part[index]!)));
            }
        } catch (error) {
            // The API's limit of the body's size may be smaller than this client assumes, so the jobs are split into smaller requests.
            if (!(error instanceof DroverError) || error.code !== "body_too_large" || part.length === 1) {
                throw error;
            }
            const half = Math.ceil(part.length / 2);
            await this.#addPart(part.slice(0, half), added);
            await this.#addPart(part.slice(half), added);
        }
    }

    /** Completes an answer of the API that has only an id and a state with the fields that the client sent. */
    #whole(answer: Partial<Message>, sent: Schemas["NewMessage"]): Message {
        if (answer.created_at !== undefined) {
            return answer as Message;
        }
        const now = new Date().toISOString();
        return {
            queue: this.name,
            name: sent.name ?? null,
            group: sent.group ?? null,
            data: sent.data,
            priority: sent.priority ?? 0,
            delay: typeof sent.delay === "number" ? sent.delay : 0,
            attempts_made: 0,
            deliveries: 0,
            lapses: 0,
            headers: sent.headers ?? {},
            created_at: now,
            due_at: now,
            started_at: null,
            finished_at: null,
            expires_at: null,
            hold: sent.hold ?? null,
            consumer: null,
            progress: null,
            result: null,
            error: null,
            ...defined("max_attempts", sent.max_attempts ?? undefined),
            ...answer,
            state: answer.state ?? "unknown",
        } as Message;
    }

    /** Calls the API; returns undefined if the queue does not exist yet. */
    async #orEmpty<T>(read: () => Promise<T>): Promise<T | undefined> {
        try {
            return await read();
        } catch (error) {
            if (error instanceof DroverError && error.code === "queue_not_found") {
                return undefined;
            }
            throw error;
        }
    }
}

/** Splits jobs into groups of jobs that fit into one request each. */
function* splitBulk(messages: Schemas["NewMessage"][]): Generator<Schemas["NewMessage"][]> {
    let part: Schemas["NewMessage"][] = [];
    let bytes = 0;
    for (const message of messages) {
        const size = Buffer.byteLength(JSON.stringify(message)) + 1;
        if (part.length === MAX_BULK_JOBS || (part.length > 0 && bytes + size > MAX_BULK_BYTES)) {
            yield part;
            part = [];
            bytes = 0;
        }
        part.push(message);
        bytes += size;
    }
    if (part.length > 0) {
        yield part;
    }
}

function scheduleDefaults({ attempts, backoff, priority, timeout, ttl, hold, group, headers }: JobOptions): ScheduleTemplate["opts"] {
    return { attempts, backoff, priority, timeout, ttl, hold, group, headers };
}

function withoutUndefined(options: JobOptions): JobOptions {
    return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/**
 * Checks a name that becomes a segment of a URL's path. The names `.` and `..` are refused, because as segments they would change the path.
 */
function checkName(option: string, name: string): string {
    if (typeof name !== "string" || name === "" || name === "." || name === "..") {
        throw new TypeError(`${option}: ${JSON.stringify(name)} is not possible: give a text other than "", "." and ".."`);
    }
    return name;
}
