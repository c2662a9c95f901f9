/** The tokens under which Nest injects queues and options, and the keys of the decorators' metadata. */
import { REQUEST } from "@nestjs/core";

export const METADATA_QUEUE = "drover:queue";
export const METADATA_PROCESS = "drover:process";
export const METADATA_EVENT = "drover:event";

/** The token with which a request-scoped processor injects its job: `@Inject(JOB_REF)`. */
export const JOB_REF = REQUEST;

/** Returns the injection token of a queue, with which a test can replace the queue. */
export function getQueueToken(name?: string): string {
    return `DroverQueue_${name || "default"}`;
}

/** Returns the injection token of a queue's options. */
export function getQueueOptionsToken(name?: string): string {
    return `DroverQueueOptions_${name || "default"}`;
}

/** Returns the injection token of the options that `forRoot` registered. */
export function getSharedConfigToken(configKey?: string): string {
    return `DROVER_CONFIG(${configKey || "default"})`;
}
