/** Finds the classes with `@Processor`, and connects their methods with the queues. */
import { Logger, type OnModuleInit, type Type } from "@nestjs/common";
import { createContextId, type DiscoveryService, type MetadataScanner, type ModuleRef, type Reflector } from "@nestjs/core";

import type { ProcessOptions, ProcessorOptions } from "./nest-decorators.js";
import type { BullQueueEventOptions } from "./nest-events.js";
import { getQueueToken, METADATA_EVENT, METADATA_PROCESS, METADATA_QUEUE } from "./nest-tokens.js";
import type { Job } from "./job.js";
import type { Queue } from "./queue.js";

type Wrapper = ReturnType<DiscoveryService["getProviders"]>[number];
type Method = (...args: unknown[]) => unknown;

export class DroverExplorer implements OnModuleInit {
    readonly #logger = new Logger("DroverModule");

    constructor(
        private readonly moduleRef: ModuleRef,
        private readonly discovery: DiscoveryService,
        private readonly reflector: Reflector,
        private readonly scanner: MetadataScanner,
    ) {}

    onModuleInit(): void {
        for (const wrapper of this.discovery.getProviders()) {
            const target = classOf(wrapper);
            const options = target && this.reflector.get<ProcessorOptions | undefined>(METADATA_QUEUE, target);
            if (options) {
                this.#connect(wrapper, this.#queue(options.name));
            }
        }
    }

    #queue(name: string | undefined): Queue {
        try {
            return this.moduleRef.get<Queue>(getQueueToken(name), { strict: false });
        } catch (error) {
            this.#logger.error(`@Processor(${name ? `"${name}"` : ""}): register the queue with DroverModule.registerQueue`);
            throw error;
        }
    }

    #connect(wrapper: Wrapper, queue: Queue): void {
        const instance = wrapper.instance as Record<string, Method>;
        const isRequestScoped = !wrapper.isDependencyTreeStatic();
        for (const key of this.scanner.getAllMethodNames(Object.getPrototypeOf(instance) as object)) {
            const method = instance[key];
            if (typeof method !== "function") {
                continue;
            }
            const process = this.reflector.get<ProcessOptions | undefined>(METADATA_PROCESS, method);
            const event = this.reflector.get<BullQueueEventOptions | undefined>(METADATA_EVENT, method);
            if (process) {
                const handler = isRequestScoped ? this.#scoped(wrapper, key) : method.bind(instance);
                register(queue, process, handler);
            } else if (event && isRequestScoped) {
                const place = `${wrapper.name}.${key}`;
                this.#logger.warn(`${place} is not called: move the listener to a class that is not request-scoped`);
            } else if (event) {
                listen(queue, event, method.bind(instance));
            }
        }
    }

    /** Calls a method of a request-scoped processor on a new instance for each job. The job is the request of the instance. */
    #scoped(wrapper: Wrapper, key: string): (job: Job) => Promise<unknown> {
        return async (job) => {
            const contextId = createContextId();
            this.moduleRef.registerRequestByContextId(job, contextId);
            const token = wrapper.token as Type<Record<string, Method>>;
            const instance = await this.moduleRef.resolve(token, contextId, { strict: false });
            return instance[key]?.(job);
        };
    }
}

/** Registers a handler with a queue. A test may replace the queue by an object that has only Bull's method `process`. */
function register(queue: Queue, { name, concurrency }: ProcessOptions, handler: (job: Job) => unknown): void {
    if (typeof queue.processNamed === "function") {
        queue.processNamed(name, concurrency, handler);
    } else {
        const args = [name, concurrency, handler].filter((argument) => argument !== undefined);
        (queue as { process(...args: unknown[]): unknown }).process(...args);
    }
}

/** Returns the class of a provider. If a value or a factory provides the instance, the class is that of the instance. */
function classOf(wrapper: Wrapper): Type | undefined {
    const instance = wrapper.instance as object | undefined;
    return (!wrapper.metatype || wrapper.inject ? instance?.constructor : wrapper.metatype) as Type | undefined;
}

/**
 * Calls a method with a decorator `@OnQueue…` or `@OnGlobalQueue…` at the events of a queue. If `name` or `id` is given, the method is
 * called only at the events of these jobs.
 */
function listen(queue: Queue, { eventName, name, id }: BullQueueEventOptions, method: Method): void {
    if (name === undefined && id === undefined) {
        queue.on(eventName, method);
        return;
    }
    queue.on(eventName, async (jobOrId: Job | string, ...args: unknown[]) => {
        const job = typeof jobOrId === "string" ? await queue.getJob(jobOrId).catch(() => null) : jobOrId;
        if (job && (name === undefined ? String(job.id) === id : job.name === name)) {
            await method(job, ...args);
        }
    });
}
