/** The API of @nestjs/bull and of bull, with the same names, on top of Drover. */
export { ConnectionError, DroverError, ReleaseError, RetryLaterError, UnrecoverableError } from "drover-client";

export * from "./bull.js";
export * as default from "./bull.js";
export * from "./nest-decorators.js";
export * from "./nest-events.js";
export { DroverModule, DroverModule as BullModule } from "./nest-module.js";
export type * from "./nest-options.js";
export { getQueueOptionsToken, getQueueToken, getSharedConfigToken, JOB_REF } from "./nest-tokens.js";
export { NoHandlerError } from "./processing.js";
export { UnsupportedError } from "./unsupported.js";
