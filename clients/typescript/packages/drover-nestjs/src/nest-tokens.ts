/** The tokens under which Nest injects queues and options, and the keys of the decorators' metadata. */
import { REQUEST } from "@nestjs/core";

export const METADATA_QUEUE = "drover:queue";
export const METADATA_PROCESS = "drover:process";
export const METADATA_EVENT = "drover:event";

/** In a request-scoped processor, `@Inject(JOB_REF)` injects the job. */
export const JOB_REF = REQUEST;

/** The token of a queue, for tests that replace the queue. */
export function getQueueToken(name?: string): string {
    return `DroverQueue_${name || "default"}`;
}

/** The token of a queue's options. */
export function getQueueOptionsToken(name?: string): string {
    return `DroverQueueOptions_${name || "default"}`;
}

/** The token of the options that `forRoot` registered. */
export function getSharedConfigToken(configKey?: string): string {
    return `DROVER_CONFIG(${configKey || "default"})`;
}
