// Adds a job and works on it, as ES module.
import { type Job, Queue, Worker } from "drover-client";

const url = process.argv[2] as string;
const queue = new Queue<{ n: number }, number>("client-esm", { url });
const worker = new Worker<{ n: number }, number>("client-esm", async (job: Job<{ n: number }, number>) => job.data.n * 2, { url });
const job = await queue.add("double", { n: 21 }, { attempts: 3, backoff: 100 });
const result: number = await job.waitUntilFinished(20_000);
console.log(`result: ${result}`);
await worker.close();
await queue.close();
