/** The options of `DroverModule`'s methods, with the names of @nestjs/bull. */
import type { FactoryProvider, ModuleMetadata, Provider, Type } from "@nestjs/common";

import type { DoneCallback, QueueOptions } from "./types.js";
import type { Job } from "./job.js";

export type BullQueueProcessorCallback = (job: Job, done?: DoneCallback) => void;
export type BullQueueSeparateProcessor = string;

export interface BullQueueAdvancedProcessor {
    concurrency?: number;
    name?: string;
    callback: BullQueueProcessorCallback;
}

/** @deprecated Causes an error, because Drover runs no processors in separate files. */
export interface BullQueueAdvancedSeparateProcessor {
    concurrency?: number;
    name?: string;
    path: BullQueueSeparateProcessor;
}

export type BullQueueProcessor =
    | BullQueueProcessorCallback
    | BullQueueAdvancedProcessor
    | BullQueueSeparateProcessor
    | BullQueueAdvancedSeparateProcessor;

/** The options of `forRoot`, which apply to all queues. */
export type BullRootModuleOptions = QueueOptions;

/** The options of one queue, which replace those of `forRoot`. */
export interface BullModuleOptions extends BullRootModuleOptions {
    /** The name of the queue (default: `default`). */
    name?: string;
    /** The key of the call of `forRoot` whose options apply to the queue. */
    configKey?: string;
    /** Functions that process the queue's jobs, in addition to the classes with `@Processor`. */
    processors?: BullQueueProcessor[];
}

export interface BullOptionsFactory {
    createBullOptions(): Promise<BullModuleOptions> | BullModuleOptions;
}

export interface SharedBullConfigurationFactory {
    createSharedConfiguration(): Promise<BullRootModuleOptions> | BullRootModuleOptions;
}

/** The way in which options are made when the application starts: by a function, a class, or an existing provider. */
export interface AsyncOptions<Factory, Options> extends Pick<ModuleMetadata, "imports"> {
    useExisting?: Type<Factory>;
    useClass?: Type<Factory>;
    useFactory?: (...args: any[]) => Promise<Options> | Options;
    /** The providers that `useFactory` gets as arguments. */
    inject?: FactoryProvider["inject"];
    /** Additional providers of the module. */
    extraProviders?: Provider[];
}

export type SharedBullAsyncConfiguration = AsyncOptions<SharedBullConfigurationFactory, BullRootModuleOptions>;

export interface BullModuleAsyncOptions extends AsyncOptions<BullOptionsFactory, BullModuleOptions> {
    /** The name of the queue (default: `default`). */
    name?: string;
    configKey?: string;
}
