// Installs the packages that `npm pack` makes into an empty folder. Programs in this folder, as ES module and as CommonJS, must compile
// with strict TypeScript, and run with a real API. Before this script runs, the packages and the tests of drover-client must be built.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const { Drover } = await import("../packages/drover-client/build/harness.js");
const folder = mkdtempSync(join(tmpdir(), "drover-install-"));
const run = (command, ...args) => execFileSync(command, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });

const drover = await Drover.start();
try {
    const tarballs = [];
    for (const name of ["drover-client", "drover-nestjs"]) {
        const [{ filename, files }] = JSON.parse(run("npm", "pack", "--json", "--pack-destination", folder, join(here, "../packages", name)));
        const extra = files.map(({ path }) => path).filter((path) => !/^(dist\/(esm|cjs)\/.*|README\.md|LICENSE(-APACHE|-MIT)?|package\.json)$/.test(path));
        const missing = ["README.md", "LICENSE", "LICENSE-APACHE", "LICENSE-MIT"].filter((path) => !files.some((file) => file.path === path));
        if (extra.length > 0 || missing.length > 0) {
            throw new Error(`the package ${name} has the files ${extra} too many, and lacks ${missing}`);
        }
        tarballs.push(`./${filename}`);
    }
    writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true }));
    const compilerOptions = { target: "es2022", module: "nodenext", strict: true, exactOptionalPropertyTypes: true, types: ["node"] };
    const experimental = { experimentalDecorators: true, emitDecoratorMetadata: true };
    // Only the type declarations of drover-client are checked, because the declarations of other packages may have mistakes.
    for (const [name, options] of [["client", compilerOptions], ["nest", { ...compilerOptions, ...experimental, skipLibCheck: true }]]) {
        writeFileSync(join(folder, `tsconfig.${name}.json`), JSON.stringify({ compilerOptions: options, files: [`${name}.mts`, `${name}.cts`] }));
    }
    for (const program of readdirSync(join(here, "install"))) {
        copyFileSync(join(here, "install", program), join(folder, program));
    }
    const others = ["typescript@5.9.3", "@types/node@20.19.25", "@nestjs/common@12", "@nestjs/core@12", "reflect-metadata@0.2", "rxjs@7"];
    run("npm", "install", "--silent", "--no-fund", "--no-audit", ...tarballs, ...others);
    for (const name of ["client", "nest"]) {
        run(join(folder, "node_modules/.bin/tsc"), "--project", `tsconfig.${name}.json`);
        for (const type of ["mjs", "cjs"]) {
            const output = run(process.execPath, `${name}.${type}`, drover.url);
            if (output !== "result: 42\n") {
                throw new Error(`${name}.${type} printed ${JSON.stringify(output)}`);
            }
        }
    }
    // The TypeScript program that imports drover-client also compiles with newer types of Node.js, which declare event emitters in another
    // way.
    run("npm", "install", "--silent", "--no-fund", "--no-audit", "@types/node@26.6.6");
    run(join(folder, "node_modules/.bin/tsc"), "--project", "tsconfig.client.json", "--noEmit");
    console.log("the packages work when installed into an empty folder, as ES modules and as CommonJS");
} finally {
    await Drover.stopAll();
    rmSync(folder, { recursive: true, force: true });
}
