/**
 * A worker process that a test kills. The process writes a log with the lines `start ID ATTEMPT` when a handler starts, `end ID ATTEMPT`
 * when the handler ends, and `confirmed ID ATTEMPT EVENT` when the worker reports the outcome. One call writes each line, so that a killed
 * process leaves only whole lines.
 */
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { ReleaseError, RetryLaterError, UnrecoverableError, Worker } from "drover-client";

const [url, queue, log] = process.argv.slice(2) as [string, string, string];
const releases = new Set<string>();
const write = (...words: unknown[]): void => appendFileSync(log, `${words.join(" ")}\n`);

const worker = new Worker<number, { result: number }>(
    queue,
    async (job) => {
        const attempt = job.attemptsMade + 1;
        write("start", job.id, attempt);
        await sleep(job.data % 4);
        write("end", job.id, attempt);
        switch (job.data % 20) {
            case 1:
                throw new UnrecoverableError(`never ${job.data}`);
            case 2:
                throw new Error(`always ${job.data}`);
            case 3:
                if (attempt === 1) {
                    throw new Error("once");
                }
                break;
            case 4:
                if (attempt === 1) {
                    throw new RetryLaterError(50);
                }
                break;
            case 5:
                if (!releases.has(job.id)) {
                    releases.add(job.id);
                    throw new ReleaseError();
                }
                break;
        }
        return { result: job.data * 3 };
    },
    { url, concurrency: 50 },
);
worker.on("completed", (job) => write("confirmed", job.id, job.attemptsMade, "completed"));
worker.on("failed", (job) => write("confirmed", job.id, job.attemptsMade, "failed"));
process.on("SIGTERM", () => {
    void worker.close();
});
