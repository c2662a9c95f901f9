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

/** @deprecated An error: Drover runs no processors in separate files. */
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

/** The options of `forRoot`: those of all queues. */
export type BullRootModuleOptions = QueueOptions;

/** The options of one queue, which replace those of `forRoot`. */
export interface BullModuleOptions extends BullRootModuleOptions {
    /** Default: `default`. */
    name?: string;
    /** The key of the `forRoot` whose options hold. */
    configKey?: string;
    /** Functions that process the queue's jobs, besides the classes with `@Processor`. */
    processors?: BullQueueProcessor[];
}

export interface BullOptionsFactory {
    createBullOptions(): Promise<BullModuleOptions> | BullModuleOptions;
}

export interface SharedBullConfigurationFactory {
    createSharedConfiguration(): Promise<BullRootModuleOptions> | BullRootModuleOptions;
}

/** How options are made when the application starts: by a function, a class, or a provider that exists. */
export interface AsyncOptions<Factory, Options> extends Pick<ModuleMetadata, "imports"> {
    useExisting?: Type<Factory>;
    useClass?: Type<Factory>;
    useFactory?: (...args: any[]) => Promise<Options> | Options;
    /** The providers that `useFactory` gets. */
    inject?: FactoryProvider["inject"];
    /** Further providers of the module. */
    extraProviders?: Provider[];
}

export type SharedBullAsyncConfiguration = AsyncOptions<SharedBullConfigurationFactory, BullRootModuleOptions>;

export interface BullModuleAsyncOptions extends AsyncOptions<BullOptionsFactory, BullModuleOptions> {
    /** Default: `default`. */
    name?: string;
    configKey?: string;
}
