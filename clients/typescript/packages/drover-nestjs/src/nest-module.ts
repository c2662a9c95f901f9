/** The module `DroverModule`, which takes the place of `BullModule` of @nestjs/bull. */
import { Module, type DynamicModule, type FactoryProvider, type Provider, type Type } from "@nestjs/common";
import { DiscoveryModule, DiscoveryService, MetadataScanner, ModuleRef, Reflector } from "@nestjs/core";

import { DroverExplorer } from "./nest-explorer.js";
import type {
    AsyncOptions,
    BullModuleAsyncOptions,
    BullModuleOptions,
    BullOptionsFactory,
    BullQueueProcessor,
    BullRootModuleOptions,
    SharedBullAsyncConfiguration,
    SharedBullConfigurationFactory,
} from "./nest-options.js";
import { getQueueOptionsToken, getQueueToken, getSharedConfigToken } from "./nest-tokens.js";
import { NestQueue } from "./nest-queue.js";
import { UnsupportedError } from "./unsupported.js";

/** The module that looks for processors once in an application, however many queues are registered. */
export class DroverExplorerModule {}

Module({
    imports: [DiscoveryModule],
    providers: [
        {
            provide: DroverExplorer,
            useFactory: (moduleRef: ModuleRef, discovery: DiscoveryService, reflector: Reflector, scanner: MetadataScanner) =>
                new DroverExplorer(moduleRef, discovery, reflector, scanner),
            inject: [ModuleRef, DiscoveryService, Reflector, MetadataScanner],
        },
    ],
})(DroverExplorerModule);

export class DroverModule {
    /** Registers options for all queues, or, if a key is given, for the queues that name this key as `configKey`. */
    static forRoot(options: BullRootModuleOptions): DynamicModule;
    static forRoot(configKey: string, options: BullRootModuleOptions): DynamicModule;
    static forRoot(keyOrOptions: string | BullRootModuleOptions, options?: BullRootModuleOptions): DynamicModule {
        const [key, useValue] = typeof keyOrOptions === "string" ? [keyOrOptions, options] : [undefined, keyOrOptions];
        const provider = { provide: getSharedConfigToken(key), useValue };
        return { global: true, module: DroverModule, providers: [provider], exports: [provider] };
    }

    /** Registers options that a factory, a class or a provider makes when the application starts. */
    static forRootAsync(options: SharedBullAsyncConfiguration): DynamicModule;
    static forRootAsync(configKey: string, options: SharedBullAsyncConfiguration): DynamicModule;
    static forRootAsync(keyOrOptions: string | SharedBullAsyncConfiguration, options?: SharedBullAsyncConfiguration): DynamicModule {
        const [key, source = {}] = typeof keyOrOptions === "string" ? [keyOrOptions, options] : [undefined, keyOrOptions];
        const { useFactory, inject } = factoryOf<SharedBullConfigurationFactory, BullRootModuleOptions>(source, "forRootAsync", (factory) =>
            factory.createSharedConfiguration(),
        );
        const provider = { provide: getSharedConfigToken(key), useFactory, inject };
        return {
            global: true,
            module: DroverModule,
            imports: source.imports ?? [],
            providers: [provider, ...extraProvidersOf(source)],
            exports: [provider],
        };
    }

    /** Registers queues, which `@InjectQueue` injects. */
    static registerQueue(...queues: BullModuleOptions[]): DynamicModule {
        const options = queues.map((queue) => queueOptions(queue.name, queue.configKey, () => queue, []));
        return this.#queues(queues, [], options);
    }

    /** Registers queues whose options are made when the application starts. */
    static registerQueueAsync(...queues: BullModuleAsyncOptions[]): DynamicModule {
        const imports = queues.flatMap((queue) => queue.imports ?? []);
        const options = queues.flatMap((queue) => {
            const { name, configKey, useExisting, useClass, useFactory } = queue;
            if (!useExisting && !useClass && !useFactory) {
                return [queueOptions(name, configKey, () => ({}), [])];
            }
            const factory = factoryOf<BullOptionsFactory, BullModuleOptions>(queue, "registerQueueAsync", (object) =>
                object.createBullOptions(),
            );
            return [queueOptions(name, configKey, factory.useFactory, factory.inject), ...extraProvidersOf(queue)];
        });
        return this.#queues(queues, imports, options);
    }

    static #queues(queues: readonly { name?: string }[], imports: DynamicModule["imports"] & object, options: Provider[]): DynamicModule {
        const providers = queues.map(({ name }) => ({
            provide: getQueueToken(name),
            useFactory: (made: BullModuleOptions) => createQueue(made.name || name || "default", made),
            inject: [getQueueOptionsToken(name)],
        }));
        return {
            module: DroverModule,
            imports: [...new Set(imports), DroverExplorerModule],
            providers: [...options, ...providers],
            exports: providers,
        };
    }
}

Module({})(DroverModule);

type Inject = NonNullable<FactoryProvider["inject"]>;

/** Provides the options of a queue: the queue's own options replace the options of `forRoot`. */
function queueOptions(
    name: string | undefined,
    configKey: string | undefined,
    make: (...args: any[]) => Promise<BullModuleOptions> | BullModuleOptions,
    inject: Inject,
): Provider {
    return {
        provide: getQueueOptionsToken(name),
        useFactory: async (shared: BullRootModuleOptions | undefined, ...args: unknown[]) => {
            if (configKey && !shared) {
                const what = `the queue "${name || "default"}" names the configKey "${configKey}"`;
                throw new Error(`${what}: call DroverModule.forRoot("${configKey}", …)`);
            }
            return { ...shared, ...(await make(...args)) };
        },
        inject: [{ token: getSharedConfigToken(configKey), optional: true }, ...inject],
    };
}

/** Returns the factory that `useFactory`, `useClass` or `useExisting` describes. */
function factoryOf<Factory, Options>(
    source: AsyncOptions<Factory, Options>,
    method: string,
    create: (factory: Factory) => Promise<Options> | Options,
): { useFactory: (...args: any[]) => Promise<Options> | Options; inject: Inject } {
    if (source.useFactory) {
        return { useFactory: source.useFactory, inject: source.inject ?? [] };
    }
    const type = source.useClass ?? source.useExisting;
    if (!type) {
        throw new TypeError(`DroverModule.${method}: give useFactory, useClass or useExisting`);
    }
    return { useFactory: (factory: Factory) => create(factory), inject: [type] };
}

function extraProvidersOf(source: { useFactory?: unknown; useClass?: Type<unknown>; extraProviders?: Provider[] }): Provider[] {
    const { useClass, useFactory, extraProviders = [] } = source;
    return useClass && !useFactory ? [{ provide: useClass, useClass }, ...extraProviders] : extraProviders;
}

function createQueue(name: string, options: BullModuleOptions): NestQueue {
    const { name: _, configKey: __, processors = [], ...own } = options;
    const queue = new NestQueue(name, own);
    for (const processor of processors) {
        addProcessor(queue, processor);
    }
    return queue;
}

function addProcessor(queue: NestQueue, processor: BullQueueProcessor): void {
    if (typeof processor === "function") {
        queue.processNamed(undefined, undefined, processor);
    } else if (typeof processor === "object" && "callback" in processor) {
        queue.processNamed(processor.name, processor.concurrency, processor.callback);
    } else {
        throw new UnsupportedError("a processor in a separate file", "give a function, and start more processes of the application");
    }
}
