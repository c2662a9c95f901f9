/** Tests that run the Bull application in `bull-application.ts` on Drover. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import type { INestApplication } from "@nestjs/common";

import { bootstrap, seen } from "./bull-application.js";
import { Services, until } from "./services.js";

let services: Services;
let app: INestApplication;
before(async () => {
    services = await Services.start();
    process.env["DROVER_URL"] = services.url;
    app = await bootstrap();
});
after(async () => {
    await app.close();
    await services.stop();
});

async function request(path: string, body?: object): Promise<any> {
    const init = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(`${await app.getUrl()}/${path}`, init);
    assert.ok(response.ok, await response.clone().text());
    return response.json();
}

test("an application written for Bull adds jobs, processes them, and shows their results", async () => {
    const job = await request("", { to: "ada" });
    assert.deepEqual([job.name, job.data, job.delay, job.opts.attempts], ["my-queue", { to: "ada" }, 100, 3]);
    assert.deepEqual(await request(`results/${job.id}`), { result: "processed ada ✅" });
    const { id } = await request("json", { to: "bob" });
    assert.deepEqual(await request(`results/${id}`), { result: "processed bob ✅" });
    const read = await request(`jobs/${id}`);
    assert.deepEqual([read.state, read.returnvalue, read.progress], ["completed", "processed bob ✅", 50]);
    assert.deepEqual(
        (await request("completed")).map((completed: any) => completed.id),
        [job.id, id],
    );
    const result = "processed bob ✅";
    const lines = [`active ${id}`, `progress ${id} 50`, `completed ${id} ${result}`, `on ${id} ${result}`, `event ${id}`, "drained"];
    await until("all events", () => lines.every((line) => seen.includes(line)));
});

test("an application written for Bull manages its queues", async () => {
    assert.deepEqual((await request("more", {})).length, 3);
    assert.equal((await services.get("other/messages/bull:42")).priority, -2_097_152);
    const { id, waiting, repetitions } = await request("manage", {});
    assert.match(id, /^repeat:tick:/);
    assert.deepEqual([waiting, repetitions], [0, 0]);
    assert.equal((await request("counts")).completed, 2);
    assert.deepEqual((await services.get("my-queue")).settings.retention.completed.count, 100);
});
