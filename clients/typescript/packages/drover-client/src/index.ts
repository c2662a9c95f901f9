/** The client package of Drover, a message queue with an HTTP API that stores its messages in Redis. */
export {
    CancelledError,
    ConnectionError,
    DroverError,
    type FieldMistake,
    JobFailedError,
    LeaseLostError,
    PartialBulkError,
    ReleaseError,
    RetryLaterError,
    TimedOutError,
    UnrecoverableError,
    WaitTimeoutError,
    WorkerClosedError,
} from "./errors.js";
export type { components, paths } from "./generated/api.js";
export type { DroverOptions } from "./http.js";
export { Job, type JobJson, type JobState } from "./job.js";
export type { BackoffOptions, Duration, JobOptions } from "./options.js";
export {
    type BulkJob,
    type JobCounts,
    type JobPage,
    type KeptState,
    type ListOptions,
    Queue,
    type QueueOptions,
    type QueueSettings,
    type QueueSettingsPatch,
    type QueueStatus,
    type StickySignal,
} from "./queue.js";
export type { Schedule, ScheduleRule, ScheduleTemplate } from "./schedule.js";
export { type Processor, Worker, type WorkerEvents, type WorkerOptions } from "./worker.js";
