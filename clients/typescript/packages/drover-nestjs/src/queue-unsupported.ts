/** The methods of Bull's queue that Drover does not have: they exist for the compiler, and say what to use instead. */
import { EventEmitter } from "node:events";

import type { Job } from "./job.js";
import type { JobId, JobOptions } from "./types.js";
import { QUEUE_METHODS, unsupported } from "./unsupported.js";

function refuse(method: string): never {
    throw unsupported(QUEUE_METHODS, method, "queue.");
}

export abstract class UnsupportedMethods<T = any> extends EventEmitter {
    /** @deprecated An error. */
    get client(): any {
        return refuse("client");
    }

    /** @deprecated An error. */
    get clients(): any[] {
        return refuse("clients");
    }

    /** @deprecated An error. */
    multi(): any {
        return refuse("multi");
    }

    /** @deprecated An error. */
    toKey(_queueType: string): string {
        return refuse("toKey");
    }

    /** @deprecated An error. */
    async getCountsPerPriority(_priorities: number[]): Promise<{ [index: string]: number }> {
        return refuse("getCountsPerPriority");
    }

    /** @deprecated An error. */
    async getMetrics(
        _type: "completed" | "failed",
        _start?: number,
        _end?: number,
    ): Promise<{ meta: { count: number; prevTS: number; prevCount: number }; data: number[]; count: number }> {
        return refuse("getMetrics");
    }

    /** @deprecated An error. */
    async getNextJob(): Promise<Job<T> | undefined> {
        return refuse("getNextJob");
    }

    /** @deprecated An error. */
    async nextRepeatableJob(_name: string, _data: any, _opts: JobOptions): Promise<Job<T>> {
        return refuse("nextRepeatableJob");
    }

    /** @deprecated An error. */
    async getJobLogs(_jobId: JobId, _start?: number, _end?: number): Promise<{ logs: string[]; count: number }> {
        return refuse("getJobLogs");
    }

    /** @deprecated An error. */
    async getWorkers(): Promise<Array<{ [index: string]: string }>> {
        return refuse("getWorkers");
    }

    /** @deprecated An error. */
    parseClientList(_list: string): Array<Array<{ [index: string]: string }>> {
        return refuse("parseClientList");
    }

    /** @deprecated An error. */
    clientName(): string {
        return refuse("clientName");
    }

    /** @deprecated An error. */
    base64Name(): string {
        return refuse("base64Name");
    }

    /** @deprecated An error. */
    async setWorkerName(): Promise<any> {
        return refuse("setWorkerName");
    }

    /** @deprecated An error. */
    async removeDebounceKey(_id: string): Promise<any> {
        return refuse("removeDebounceKey");
    }
}
