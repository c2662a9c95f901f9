/** The generated types are those of the API that is tested. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Drover } from "./harness.js";

let drover: Drover;
const folder = mkdtempSync(join(tmpdir(), "drover-types-"));

before(async () => {
    drover = await Drover.start();
});

after(async () => {
    await Drover.stopAll();
    rmSync(folder, { recursive: true, force: true });
});

test("src/generated/api.ts is what scripts/types.mjs generates from /openapi.json", async () => {
    writeFileSync(join(folder, "openapi.json"), JSON.stringify(await drover.raw("GET", "/openapi.json")));
    const script = fileURLToPath(new URL("../../../scripts/types.mjs", import.meta.url));
    const { status, stderr } = spawnSync(process.execPath, [script, join(folder, "openapi.json"), join(folder, "api.ts")], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const committed = readFileSync(new URL("../src/generated/api.ts", import.meta.url), "utf8");
    assert.ok(readFileSync(join(folder, "api.ts"), "utf8") === committed, "src/generated/api.ts is stale: run `make node-types`");
});
