/** A queue that begins and ends to process jobs with its Nest application. */
import type { OnApplicationBootstrap, OnApplicationShutdown, OnModuleDestroy } from "@nestjs/common";

import { Queue } from "./queue.js";

export class NestQueue<T = any> extends Queue<T> implements OnApplicationBootstrap, OnModuleDestroy, OnApplicationShutdown {
    /** Starts the handlers of the queue when all modules of the application are initialised. */
    onApplicationBootstrap(): void {
        this.begin();
    }

    /** Ends the handlers of the queue before the application closes the resources that the handlers may use. */
    async onModuleDestroy(): Promise<void> {
        await this.closeProcessing();
    }

    async onApplicationShutdown(): Promise<void> {
        await this.close();
    }
}
