/**
 * Checks the types of drover-client: the file must compile, and each line after `@ts-expect-error` must be an error. The file is never run.
 */
import { type Job, Queue, Worker } from "drover-client";

interface Mail {
    to: string;
}

export async function check(): Promise<void> {
    const queue = new Queue<Mail, { sent: boolean }>("mails", { url: "http://127.0.0.1:8080", key: "k" });
    const job = await queue.add("welcome", { to: "ada" }, { attempts: 3, backoff: 500 });
    const sent: boolean = (await job.waitUntilFinished()).sent;
    const worker = new Worker<Mail, { sent: boolean }>(
        "mails",
        async (leased: Job<Mail, { sent: boolean }>, signal: AbortSignal) => {
            await leased.updateProgress({ step: 1 });
            return { sent: leased.data.to !== "" && !signal.aborted };
        },
        { concurrency: 5 },
    );
    worker.on("completed", (done, result) => {
        const to: string = done.data.to;
        return [to, result.sent, sent];
    });
    worker.once("error", (error) => error.message);
    // @ts-expect-error: the data has another type
    await queue.add("welcome", { of: "ada" });
    // @ts-expect-error: Drover keeps results by the queue's settings
    await queue.add("welcome", { to: "ada" }, { removeOnComplete: true });
    // @ts-expect-error: there is no such option
    new Worker("mails", () => 1, { concurency: 5 });
    // @ts-expect-error: there is no such event
    worker.on("stalled", () => {});
    // @ts-expect-error: the result has another type
    new Worker<Mail, { sent: boolean }>("mails", async () => ({ sent: 1 }));
    // @ts-expect-error: active jobs can't be purged
    await queue.purge("active");
}
