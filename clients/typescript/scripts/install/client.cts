// Adds a job and works on it, as CommonJS.
import drover = require("drover-client");

const url = process.argv[2] as string;
const queue = new drover.Queue<{ n: number }, number>("client-cjs", { url });
const worker = new drover.Worker<{ n: number }, number>("client-cjs", (job) => job.data.n * 2, { url });
worker.on("completed", (job: drover.Job<{ n: number }, number>, result: number) => {
    console.log(`result: ${result}`);
    void worker.close().then(() => queue.close());
    job.isCompleted().catch(() => {});
});
void queue.add("double", { n: 21 });
