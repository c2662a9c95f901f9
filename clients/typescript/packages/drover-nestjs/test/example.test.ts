/** Tests of the example `examples/nest`, which runs as a process with a real API, and of kills of both processes. */
import assert from "node:assert/strict";
import { type ChildProcess, execFile } from "node:child_process";
import { once } from "node:events";
import { cpSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { freePort, repository, Services, start, until } from "./services.js";

const folder = join(dirname(fileURLToPath(import.meta.url)), "example");
const lines: string[] = [];
let services: Services;
let port: number;
let app: ChildProcess | undefined;

before(async () => {
    rmSync(folder, { recursive: true, force: true });
    for (const part of ["package.json", "tsconfig.json", "src"]) {
        cpSync(join(repository(), "examples/nest", part), join(folder, part), { recursive: true });
    }
    const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
    await promisify(execFile)(process.execPath, [tsc, "--project", folder]);
    services = await Services.start();
    port = await freePort();
    await startApp();
});
after(async () => {
    await endApp("SIGKILL");
    await services.stop();
});

async function startApp(): Promise<void> {
    const environment = { ...process.env, DROVER_URL: services.url, PORT: String(port), NO_COLOR: "1" };
    const child = start(process.execPath, ["dist/main.js"], { cwd: folder, env: environment, stdio: ["ignore", "pipe", "pipe"] });
    for (const input of [child.stdout, child.stderr]) {
        createInterface({ input: input! }).on("line", (line) => lines.push(line));
    }
    app = child;
    await until("the application serves", () => {
        assert.equal(child.exitCode, null, `the application ended:\n${lines.slice(-20).join("\n")}`);
        return request("unknown").then(
            ({ status }) => status === 404,
            () => false,
        );
    });
}

async function endApp(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const child = app;
    if (child && child.exitCode === null && child.signalCode === null) {
        const exit = once(child, "exit");
        child.kill(signal);
        await exit;
    }
}

/** Adds a job by a POST with this body, or reads the job with this id. */
async function request(idOrBody: string | object): Promise<{ status: number; json: any }> {
    const [path, init] =
        typeof idOrBody === "string"
            ? [idOrBody, {}]
            : ["", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(idOrBody) }];
    const response = await fetch(`http://127.0.0.1:${port}/${path}`, init);
    return { status: response.status, json: await response.json() };
}

/** Reads a job from the application again and again until the job has finished. */
function finished(id: string): Promise<any> {
    return until(`job ${id} has finished`, async () => {
        const { json } = await request(id);
        return json.state === "completed" || json.state === "failed" ? json : undefined;
    });
}

const runsOf = (id: string): number => lines.filter((line) => line.includes(`processes job ${id}:`)).length;

test("the answer is the job, and the result is seen after the delay", async () => {
    const { status, json } = await request({ hello: 1 });
    assert.equal(status, 201);
    assert.match(json.id, /^[0-9]{14}$/);
    assert.deepEqual(
        { ...json, id: 0, timestamp: 0 },
        {
            ...{ id: 0, name: "my-queue", data: { hello: 1 }, opts: { delay: 1500, attempts: 1 }, progress: 0, delay: 1500 },
            ...{ timestamp: 0, attemptsMade: 0, stacktrace: [], returnvalue: null, finishedOn: null, processedOn: null },
        },
    );
    assert.equal((await request(json.id)).json.state, "delayed");
    const end = await finished(json.id);
    assert.equal(end.returnvalue, "processed ✅");
    assert.equal(end.state, "completed");
    assert.ok(end.processedOn - end.timestamp >= 1500, `the job began after ${end.processedOn - end.timestamp} ms`);
    const ofJob = (): string[] => lines.filter((line) => line.includes(json.id)).map((line) => line.replace(/^.*\] /, ""));
    await until("the line about the end", () => ofJob().length === 3);
    assert.deepEqual(ofJob(), [
        `job ${json.id} is active`,
        `processes job ${json.id}: {"hello":1}`,
        `job ${json.id} is completed: processed ✅`,
    ]);
});

test("SIGTERM lets the job that runs finish", async () => {
    const { json } = await request({ term: 1 });
    await until("the job runs", () => runsOf(json.id) === 1);
    await endApp("SIGTERM");
    assert.equal((await services.get(`my-queue/messages/${json.id}`)).state, "completed");
    await startApp();
    assert.equal(runsOf(json.id), 1);
});

test("kills of the application and of the API lose no job", async () => {
    await services.patch("my-queue", { visibility_timeout: 2_000, max_lapses: 1_000 });
    const before = (await services.get("my-queue")).totals;
    const answered = new Map<string, number>();
    let unanswered = 0;
    let isPosting = true;
    const post = async (): Promise<void> => {
        for (let n = 0; isPosting; n += 1) {
            const result = await request({ n }).catch(() => undefined);
            if (result?.status === 201) {
                answered.set(result.json.id, n);
            } else {
                unanswered += 1;
            }
            await new Promise((resolve) => setTimeout(resolve, 150));
        }
    };
    const posting = Promise.all([post(), post()]);
    const active = (): number => lines.filter((line) => line.includes("is active")).length;
    for (let round = 0; round < 2; round += 1) {
        const seen = active();
        await until("jobs run", () => active() >= seen + 3);
        await endApp("SIGKILL");
        await startApp();
        const later = active();
        await until("jobs run again", () => active() >= later + 3);
        await services.killApi();
        await services.startApi();
    }
    isPosting = false;
    await posting;
    await until("no job is left", async () => {
        const { counts } = await services.get("my-queue");
        return counts.delayed + counts.waiting + counts.active === 0;
    });
    for (const [id, n] of answered) {
        const message = await services.get(`my-queue/messages/${id}`);
        assert.deepEqual([message.state, message.result, message.data], ["completed", "processed ✅", { n }], `job ${id}`);
        assert.ok(runsOf(id) >= 1, `job ${id} is completed, but the application never processed it`);
    }
    const totals = (await services.get("my-queue")).totals;
    const enqueued = totals.enqueued - before.enqueued;
    assert.equal(totals.failed, before.failed);
    assert.equal(totals.completed - before.completed, enqueued);
    assert.ok(enqueued >= answered.size && enqueued <= answered.size + unanswered, `${enqueued} of ${answered.size} + ${unanswered}`);
    assert.ok(answered.size >= 30, `only ${answered.size} jobs were answered`);
});
