/**
 * A test that runs 10,000 jobs while the worker's process and the API are killed again and again, and accounts for each run of each job.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Queue } from "drover-client";
import { Drover, Service, until } from "./harness.js";

const JOB_COUNT = 10_000;
const CONCURRENCY = 50;

let drover: Drover;
let queue: Queue<number>;
let worker: Service;
const folder = mkdtempSync(join(tmpdir(), "drover-kills-"));
const log = join(folder, "log");

before(async () => {
    drover = await Drover.start();
    queue = new Queue("kills", { url: drover.url });
});

after(async () => {
    await worker.end();
    await queue.close();
    await Drover.stopAll();
    rmSync(folder, { recursive: true, force: true });
});

/** The expected end of a job: its state, and the number of its attempts. */
function expectation(data: number): { state: string; attempts: number; reason?: string } {
    switch (data % 20) {
        case 1:
            return { state: "failed", attempts: 1, reason: `never ${data}` };
        case 2:
            return { state: "failed", attempts: 2, reason: `always ${data}` };
        case 3:
        case 4:
            return { state: "completed", attempts: 2 };
        default:
            return { state: "completed", attempts: 1 };
    }
}

test("10,000 jobs survive kills of the worker and of the API: each ends exactly as its handler decided", { timeout: 300_000 }, async () => {
    // A short visibility timeout ends the leases of killed workers soon. The high `max_lapses` keeps lapsed leases from failing a job.
    await queue.updateSettings({
        visibility_timeout: "3s",
        max_lapses: 1_000,
        backoff: { type: "fixed", delay: 20, jitter: 0 },
        retention: { completed: { count: 100_000 } },
    });
    const jobs = await queue.addBulk(Array.from({ length: JOB_COUNT }, (_, i) => ({ name: "n", data: i, opts: { attempts: 2 } })));
    worker = new Service(process.execPath, [fileURLToPath(new URL("kills-worker.js", import.meta.url)), drover.url, "kills", log]);
    worker.start();

    // Each kill happens when a certain share of the jobs has finished, so that all kills hit running work on a machine of any speed.
    const size = (): number => statSync(log, { throwIfNoEntry: false })?.size ?? 0;
    const bytes = JOB_COUNT * 58;
    for (let kill = 1; kill <= 9; kill += 1) {
        await until(`share ${kill} of the work is done`, () => size() >= (bytes * kill) / 10, 60_000);
        if (kill % 3 === 0) {
            await drover.api.end("SIGKILL");
            await drover.startApi();
        } else if (kill % 3 === 1) {
            await worker.end("SIGKILL");
            worker.start();
        } else {
            await Promise.all([worker.end("SIGKILL"), drover.api.end("SIGKILL")]);
            worker.start();
            await drover.startApi();
        }
    }
    await until("all jobs have finished", async () => {
        const { completed, failed } = await queue.getJobCounts();
        return completed + failed === JOB_COUNT;
    }, 60_000);
    await worker.end("SIGTERM");

    // Every job is stored, and has ended as its handler decided.
    const messages = await drover.messages("kills");
    assert.equal(messages.size, JOB_COUNT);
    for (const { id, data } of jobs) {
        const { state, attempts, reason } = expectation(data);
        const message = messages.get(id);
        const result = state === "completed" ? { result: data * 3 } : null;
        assert.deepEqual(
            [message.data, message.state, message.attempts_made, message.result, message.error?.message],
            [data, state, attempts, result, reason],
            `job ${id}`,
        );
    }

    // An attempt runs again only after its lease lapsed or was released, and never after its outcome was confirmed.
    const confirmed = new Set<string>();
    const starts = new Map<string, number>();
    for (const line of readFileSync(log, "utf8").trimEnd().split("\n")) {
        const [event, id = "", attempt] = line.split(" ");
        if (event === "start") {
            assert.ok(!confirmed.has(`${id} ${attempt}`), `attempt ${attempt} of job ${id} started after its end was confirmed`);
            starts.set(id, (starts.get(id) ?? 0) + 1);
        } else if (event === "confirmed") {
            assert.ok(!confirmed.has(`${id} ${attempt}`), `the end of attempt ${attempt} of job ${id} was reported twice`);
            confirmed.add(`${id} ${attempt}`);
        }
    }
    let lapses = 0;
    let repeated = 0;
    for (const message of messages.values()) {
        const runs = starts.get(message.id) ?? 0;
        assert.ok(runs >= message.attempts_made, `job ${message.id} has ${message.attempts_made} attempts and only ${runs} runs`);
        assert.ok(runs <= message.deliveries, `job ${message.id} ran ${runs} times and was leased ${message.deliveries} times`);
        const released = message.deliveries - message.attempts_made - message.lapses;
        const permitted = message.data % 20 === 5 ? 10 : 0;
        assert.ok(released >= 0 && released <= permitted, `job ${message.id}: ${released} leases ended without an account`);
        lapses += message.lapses;
        repeated += Math.max(0, runs - message.attempts_made - released);
    }
    // Nine kills interrupt at most this number of leases: the leases of running handlers, and leases that were being requested or settled.
    assert.ok(lapses > 0, "no kill has hit a lease");
    assert.ok(lapses <= 9 * CONCURRENCY * 4, `${lapses} leases lapsed`);
    console.log(`    ${lapses} leases lapsed, ${repeated} runs were repeated, ${confirmed.size} outcomes were reported`);
});
