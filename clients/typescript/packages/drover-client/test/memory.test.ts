/** Tests that the memory of a worker does not grow with the number of its jobs. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Drover } from "./harness.js";

let drover: Drover;

before(async () => {
    drover = await Drover.start();
});

after(() => Drover.stopAll());

test("the heap of a worker does not grow over 100,000 jobs", { timeout: 300_000 }, async () => {
    await drover.raw("PATCH", "/v1/queues/memory", { backoff: { type: "fixed", delay: 0, jitter: 0 }, retention: { completed: { count: 0, min_age: 0 } } });
    const program = fileURLToPath(new URL("memory-worker.js", import.meta.url));
    const child = spawn(process.execPath, ["--expose-gc", program, drover.url, "100000"], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    const status = await new Promise((ended) => child.once("exit", ended));
    assert.equal(status, 0);
    const heap = (JSON.parse(output) as number[]).map((bytes) => Math.round(bytes / 100_000) / 10);
    assert.equal(heap.length, 10);
    const growth = Math.max(...heap.slice(1)) - Math.min(...heap.slice(0, 2));
    assert.ok(growth <= 10, `the heap grew by ${growth} MB: ${heap.join(", ")} MB`);
    console.log(`    heap after each 10,000 jobs: ${heap.join(", ")} MB`);
});
