/** The resources that the tests of one file share: a Redis, an API, and the queues and workers that the tests open. */
import { after, before } from "node:test";

import { type Processor, Queue, Worker, type WorkerOptions } from "drover-client";
import { Drover } from "./harness.js";

export let drover: Drover;
const queues: Queue<any, any>[] = [];
const workers: Worker<any, any>[] = [];

/** Starts the services before the tests of the file, and stops everything after them. */
export function setUp(): void {
    before(async () => {
        drover = await Drover.start();
    });
    after(async () => {
        await Promise.all(workers.map((worker) => worker.close({ force: true })));
        await Promise.all(queues.map((queue) => queue.close()));
        await Drover.stopAll();
    });
}

export function open(name: string, options: ConstructorParameters<typeof Queue>[1] = {}): Queue<any, any> {
    const queue = new Queue<any, any>(name, { url: drover.url, ...options });
    queues.push(queue);
    return queue;
}

export function work(name: string, handler: Processor<any, any>, options: WorkerOptions = {}): Worker<any, any> {
    const worker = new Worker<any, any>(name, handler, { url: drover.url, ...options });
    workers.push(worker);
    return worker;
}

/** Reads a message by a plain HTTP request, and not with the client under test. */
export function message(queue: string, id: string): Promise<any> {
    return drover.raw("GET", `/v1/queues/${queue}/messages/${id}`);
}

/** Leases one message and settles its lease by plain HTTP requests, and not with the client under test. */
export async function settleOne(queue: string, settlement: object = { action: "complete", result: "done" }): Promise<any> {
    const { messages } = await drover.raw("POST", `/v1/queues/${queue}/leases`, { wait: "10s" });
    const { lease } = messages[0];
    await drover.raw("POST", `/v1/queues/${queue}/leases/settle`, { settlements: [{ lease, ...settlement }] });
    return messages[0];
}

export interface Gate {
    handler: Processor<any, any>;
    open(value?: unknown): void;
    /** The reasons with which the signals of the handler were aborted. */
    reasons: unknown[];
    started(): number;
}

/** A handler that ends when the test tells it to end, or when its signal is aborted. */
export function gate(): Gate {
    let end: (value?: unknown) => void = () => {};
    const opened = new Promise<unknown>((resolve) => (end = resolve));
    const reasons: unknown[] = [];
    let count = 0;
    const handler: Processor<any, any> = (_, signal) => {
        count += 1;
        return new Promise((resolve, reject) => {
            void opened.then(resolve);
            signal.addEventListener("abort", () => {
                reasons.push(signal.reason);
                reject(signal.reason as Error);
            });
        });
    };
    return { handler, open: end, reasons, started: () => count };
}
