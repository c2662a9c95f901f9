/** The decorators of @nestjs/bull. */
import { Inject, SetMetadata, type Scope } from "@nestjs/common";
import {
    type BullQueueEvent,
    type BullQueueEventOptions,
    BullQueueEvents,
    BullQueueGlobalEvents,
    type QueueEventDecoratorOptions,
} from "./nest-events.js";
import { getQueueToken, METADATA_EVENT, METADATA_PROCESS, METADATA_QUEUE } from "./nest-tokens.js";

// Nest reads the scope of a provider from this metadata key.
const SCOPE_OPTIONS_METADATA = "scope:options";

/** A decorator that injects the queue with this name. */
export const InjectQueue = (name?: string): ReturnType<typeof Inject> => Inject(getQueueToken(name));

export interface ProcessorOptions {
    /** The name of the queue whose jobs the class processes. */
    name?: string;
    /** The NestJS scope of the processing class. With `Scope.REQUEST`, each job is processed by a new instance of the class. */
    scope?: Scope;
}

/** A decorator of a class whose methods process the jobs of a queue. */
export function Processor(): ClassDecorator;
export function Processor(queueName: string): ClassDecorator;
export function Processor(processorOptions: ProcessorOptions): ClassDecorator;
export function Processor(nameOrOptions?: string | ProcessorOptions): ClassDecorator {
    const options = typeof nameOrOptions === "object" ? nameOrOptions : { name: nameOrOptions };
    return (target) => {
        SetMetadata(SCOPE_OPTIONS_METADATA, options)(target);
        SetMetadata(METADATA_QUEUE, options)(target);
    };
}

export interface ProcessOptions {
    /** The name of the jobs that the method processes; `*` for all names that have no other method. Default: jobs without a name. */
    name?: string;
    /**
     * The number by which the method raises the maximum number of jobs that the queue processes at once in this process: 0 or more.
     * Default: 1.
     */
    concurrency?: number;
}

/** A decorator of a method that processes jobs. */
export function Process(): MethodDecorator;
export function Process(name: string): MethodDecorator;
export function Process(options: ProcessOptions): MethodDecorator;
export function Process(nameOrOptions?: string | ProcessOptions): MethodDecorator {
    return SetMetadata(METADATA_PROCESS, typeof nameOrOptions === "string" ? { name: nameOrOptions } : (nameOrOptions ?? {}));
}

/** A decorator of a method that is called at each of these events. */
export const OnQueueEvent = (eventNameOrOptions: BullQueueEvent | BullQueueEventOptions): MethodDecorator =>
    SetMetadata(METADATA_EVENT, typeof eventNameOrOptions === "string" ? { eventName: eventNameOrOptions } : eventNameOrOptions);

type EventDecorator = (options?: QueueEventDecoratorOptions) => MethodDecorator;

const on =
    (eventName: BullQueueEvent): EventDecorator =>
    (options) =>
        SetMetadata(METADATA_EVENT, { ...options, eventName });

export const OnQueueError = on(BullQueueEvents.ERROR);
export const OnQueueWaiting = on(BullQueueEvents.WAITING);
export const OnQueueActive = on(BullQueueEvents.ACTIVE);
export const OnQueueStalled = on(BullQueueEvents.STALLED);
export const OnQueueProgress = on(BullQueueEvents.PROGRESS);
export const OnQueueCompleted = on(BullQueueEvents.COMPLETED);
export const OnQueueFailed = on(BullQueueEvents.FAILED);
export const OnQueuePaused = on(BullQueueEvents.PAUSED);
export const OnQueueResumed = on(BullQueueEvents.RESUMED);
export const OnQueueCleaned = on(BullQueueEvents.CLEANED);
export const OnQueueDrained = on(BullQueueEvents.DRAINED);
export const OnQueueRemoved = on(BullQueueEvents.REMOVED);
export const OnGlobalQueueError = on(BullQueueGlobalEvents.ERROR);
export const OnGlobalQueueWaiting = on(BullQueueGlobalEvents.WAITING);
export const OnGlobalQueueActive = on(BullQueueGlobalEvents.ACTIVE);
export const OnGlobalQueueStalled = on(BullQueueGlobalEvents.STALLED);
export const OnGlobalQueueProgress = on(BullQueueGlobalEvents.PROGRESS);
export const OnGlobalQueueCompleted = on(BullQueueGlobalEvents.COMPLETED);
export const OnGlobalQueueFailed = on(BullQueueGlobalEvents.FAILED);
export const OnGlobalQueuePaused = on(BullQueueGlobalEvents.PAUSED);
export const OnGlobalQueueResumed = on(BullQueueGlobalEvents.RESUMED);
export const OnGlobalQueueCleaned = on(BullQueueGlobalEvents.CLEANED);
export const OnGlobalQueueDrained = on(BullQueueGlobalEvents.DRAINED);
export const OnGlobalQueueRemoved = on(BullQueueGlobalEvents.REMOVED);
