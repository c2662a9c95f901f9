// Generates the types of requests and answers from the API's description: node scripts/types.mjs OPENAPI_JSON OUTPUT. The script omits
// paths outside /v1, and error responses, because each error has the type `Problem`.
import { readFileSync, writeFileSync } from "node:fs";
import openapiTypescript, { astToString } from "openapi-typescript";

const [source, output] = process.argv.slice(2);
if (!source || !output) {
    throw new Error("usage: node scripts/types.mjs OPENAPI_JSON OUTPUT");
}

const description = JSON.parse(readFileSync(source, "utf8"));
const paths = Object.entries(description.paths).filter(([path]) => path.startsWith("/v1/"));
for (const [, operations] of paths) {
    for (const operation of Object.values(operations)) {
        if (operation.responses) {
            const successes = Object.entries(operation.responses).filter(([status]) => status.startsWith("2"));
            operation.responses = Object.fromEntries(successes.map(([status, { description, content }]) => [status, { description, content }]));
        }
    }
}
const { schemas, parameters } = description.components;
const part = { ...description, paths: Object.fromEntries(paths), components: { schemas, parameters } };
const types = astToString(await openapiTypescript(JSON.stringify(part)));
writeFileSync(output, `// Generated from /openapi.json by scripts/types.mjs; \`make node-types\` renews this file.\n\n${types}`);
