/** A queue that follows the life of a Nest application. */
import type { OnApplicationBootstrap, OnApplicationShutdown, OnModuleDestroy } from "@nestjs/common";

import { Queue } from "./queue.js";

export class NestQueue<T = any> extends Queue<T> implements OnApplicationBootstrap, OnModuleDestroy, OnApplicationShutdown {
    /** Handlers begin to run when all modules are initialised. */
    onApplicationBootstrap(): void {
        this.begin();
    }

    /** Handlers end before the application closes what they may use. */
    async onModuleDestroy(): Promise<void> {
        await this.closeProcessing();
    }

    async onApplicationShutdown(): Promise<void> {
        await this.close();
    }
}
