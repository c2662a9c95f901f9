/**
 * The methods of Bull's queue that Drover does not have. The methods exist for the compiler, and throw an error that says what to use
 * instead.
 */
import { EventEmitter } from "node:events";

import type { Job } from "./job.js";
import type { JobId, JobOptions } from "./types.js";
import { QUEUE_METHODS, unsupported } from "./unsupported.js";

function refuse(method: string): never {
    throw unsupported(QUEUE_METHODS, method, "queue.");
}

export abstract class UnsupportedMethods<T = any> extends EventEmitter {
    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    get client(): any {
        return refuse("client");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    get clients(): any[] {
        return refuse("clients");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    multi(): any {
        return refuse("multi");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    toKey(_queueType: string): string {
        return refuse("toKey");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    async getCountsPerPriority(_priorities: number[]): Promise<{ [index: string]: number }> {
        return refuse("getCountsPerPriority");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    async getMetrics(
        _type: "completed" | "failed",
        _start?: number,
        _end?: number,
    ): Promise<{ meta: { count: number; prevTS: number; prevCount: number }; data: number[]; count: number }> {
        return refuse("getMetrics");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    async getNextJob(): Promise<Job<T> | undefined> {
        return refuse("getNextJob");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    async nextRepeatableJob(_name: string, _data: any, _opts: JobOptions): Promise<Job<T>> {
        return refuse("nextRepeatableJob");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    async getJobLogs(_jobId: JobId, _start?: number, _end?: number): Promise<{ logs: string[]; count: number }> {
        return refuse("getJobLogs");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    async getWorkers(): Promise<Array<{ [index: string]: string }>> {
        return refuse("getWorkers");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    parseClientList(_list: string): Array<Array<{ [index: string]: string }>> {
        return refuse("parseClientList");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    clientName(): string {
        return refuse("clientName");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    base64Name(): string {
        return refuse("base64Name");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    async setWorkerName(): Promise<any> {
        return refuse("setWorkerName");
    }

    /** @deprecated Throws an error: Drover does not have this part of Bull's queue. */
    async removeDebounceKey(_id: string): Promise<any> {
        return refuse("removeDebounceKey");
    }
}
