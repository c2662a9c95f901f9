/** The names of the events that a queue emits. An event named `global:…` also reports jobs of other processes. */

export enum BullQueueEvents {
    ERROR = "error",
    WAITING = "waiting",
    ACTIVE = "active",
    STALLED = "stalled",
    PROGRESS = "progress",
    COMPLETED = "completed",
    FAILED = "failed",
    PAUSED = "paused",
    RESUMED = "resumed",
    CLEANED = "cleaned",
    DRAINED = "drained",
    REMOVED = "removed",
}

export enum BullQueueGlobalEvents {
    ERROR = "global:error",
    WAITING = "global:waiting",
    ACTIVE = "global:active",
    STALLED = "global:stalled",
    PROGRESS = "global:progress",
    COMPLETED = "global:completed",
    FAILED = "global:failed",
    PAUSED = "global:paused",
    RESUMED = "global:resumed",
    CLEANED = "global:cleaned",
    DRAINED = "global:drained",
    REMOVED = "global:removed",
}

export type BullQueueEvent = `${BullQueueEvents}` | `${BullQueueGlobalEvents}`;

type OneOf<T> = { [K in keyof T]: Required<Pick<T, K>> & { [Other in Exclude<keyof T, K>]?: undefined } }[keyof T];

/** Selects the jobs whose events a listener gets: the jobs with this name, or the job with this id. */
export type QueueEventDecoratorOptions = OneOf<{ id: string; name: string }>;

export type BullQueueEventOptions = { eventName: BullQueueEvent } & QueueEventDecoratorOptions;
