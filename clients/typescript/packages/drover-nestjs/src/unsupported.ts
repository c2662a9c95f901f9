/** The errors for the parts of Bull that Drover does not have. Each error text says what to use instead. */

/** The error for the use of a part of Bull's API that Drover does not have. */
export class UnsupportedError extends Error {
    override readonly name: string = "UnsupportedError";
    /** The option or method of Bull that was used. */
    readonly feature: string;

    constructor(feature: string, instead: string) {
        super(`${feature} is not supported by Drover: ${instead}`);
        this.feature = feature;
    }
}

/** The advice for options of `queue.add` that Drover does not have. */
export const JOB_OPTIONS: Readonly<Record<string, string>> = {
    lifo: "use priority, 1 being the highest",
    debounce: "use jobId: a job whose id exists is not added again",
    deduplication: "use jobId: a job whose id exists is not added again",
    preventParsingData: "job.data is always parsed; parse a text of your own from a field of data",
    timestamp: "Drover records the time of the post; put a time of your own into data",
    keepLogs: "Drover keeps no logs of jobs; report job.progress(value), or use your own log",
    sizeLimit: "the API limits the size of a request by its api.body_limit",
    parent: "Drover has no flows; add the next job at the end of a handler, or use the hold of drover-client",
};

/** The advice for options of a queue that Drover does not have. */
export const QUEUE_OPTIONS: Readonly<Record<string, string>> = {
    redis: "name Drover's API with url: \"http://127.0.0.1:8080\"; only Drover itself connects to Redis",
    createClient: "name Drover's API with url; only Drover itself connects to Redis",
    prefix: "put the prefix into the queue's name",
    metrics: "read the metrics of all queues at the API's /metrics",
    skipVersionCheck: "only Drover itself connects to Redis; leave the option out",
};

/** The advice for methods and properties of Bull's queue that Drover does not have. */
export const QUEUE_METHODS: Readonly<Record<string, string>> = {
    client: "only Drover itself connects to Redis; keep your own data in a connection of your own",
    clients: "only Drover itself connects to Redis; keep your own data in a connection of your own",
    multi: "only Drover itself connects to Redis; keep your own data in a connection of your own",
    toKey: "the keys in Redis are Drover's own; read messages through the API",
    getCountsPerPriority: "list the waiting jobs with getWaiting(), and count by opts.priority",
    getMetrics: "read the metrics of all queues at the API's /metrics",
    getNextJob: "use queue.process(), or the Worker of drover-client",
    nextRepeatableJob: "the API posts the jobs of a repetition; add the repetition with opts.repeat",
    getJobLogs: "Drover keeps no logs of jobs; report job.progress(value), or use your own log",
    getWorkers: "see the consumers of active jobs in the dashboard of the API",
    parseClientList: "only Drover itself connects to Redis",
    clientName: "only Drover itself connects to Redis",
    base64Name: "only Drover itself connects to Redis; use queue.name",
    setWorkerName: "the API names consumers by itself",
    removeDebounceKey: "jobs have no debounce keys; a removed job frees its jobId",
};

/** The advice for methods of Bull's job that Drover does not have. */
export const JOB_METHODS: Readonly<Record<string, string>> = {
    lockKey: "a job's lease has no key; the worker extends the lease while the handler runs",
    takeLock: "a job is leased by the worker; process the job with queue.process()",
    releaseLock: "throw a ReleaseError of drover-client in the handler to return the job to its queue",
    moveToDelayed: "throw a RetryLaterError or a ReleaseError of drover-client in the handler",
};

/** Returns the error for an option or a method, with its advice from one of the lists of this file. */
export function unsupported(list: Readonly<Record<string, string>>, feature: string, prefix = ""): UnsupportedError {
    return new UnsupportedError(prefix + feature, list[feature] ?? "leave it out");
}
