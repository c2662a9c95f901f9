/** A program, started with `--expose-gc`, that runs 100,000 jobs in one worker and prints the used heap after every 10,000 jobs. */
import { Queue, Worker } from "drover-client";

const [url, total] = [process.argv[2] as string, Number(process.argv[3])];
const collect = (globalThis as unknown as { gc: () => void }).gc;
const queue = new Queue<{ n: number; text: string }>("memory", { url });
const heap: number[] = [];
let done = 0;

const worker = new Worker<{ n: number; text: string }>(
    "memory",
    async (job, signal) => {
        signal.addEventListener("abort", () => {});
        if (job.data.n % 100 === 0) {
            await job.updateProgress(job.data.n);
        }
        if (job.data.n % 10 === 0 && job.attemptsMade === 0) {
            throw new Error("once");
        }
        return job.data.text;
    },
    { url, concurrency: 50 },
);
worker.on("error", (error) => {
    console.error(error);
    process.exit(1);
});
const finished = new Promise<void>((resolve) => {
    worker.on("completed", () => {
        done += 1;
        if (done % 10_000 === 0) {
            collect();
            heap.push(process.memoryUsage().heapUsed);
        }
        if (done === total) {
            resolve();
        }
    });
});
for (let start = 0; start < total; start += 1_000) {
    await queue.addBulk(Array.from({ length: 1_000 }, (_, i) => ({ name: "n", data: { n: start + i, text: "x".repeat(200) } })));
}
await finished;
await worker.close();
await queue.close();
console.log(JSON.stringify(heap));
