// Builds the package in the current folder from `src`: as ES modules into `dist/esm`, and as CommonJS into `dist/cjs`.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const formats = [
    ["esm", "module", ["--module", "nodenext", "--moduleResolution", "nodenext"]],
    ["cjs", "commonjs", ["--module", "commonjs", "--moduleResolution", "node10"]],
];

rmSync("dist", { recursive: true, force: true });
for (const [folder, type, options] of formats) {
    const outDir = `dist/${folder}`;
    execFileSync(process.execPath, [tsc, "--project", "tsconfig.json", "--outDir", outDir, ...options], { stdio: "inherit" });
    writeFileSync(`${outDir}/package.json`, `${JSON.stringify({ type })}\n`);
}
