// Fetches a document from a server that is just starting. Usage: node scripts/fetch.mjs URL OUTPUT
import { writeFileSync } from "node:fs";

const [url, output] = process.argv.slice(2);
const deadline = performance.now() + 30_000;
for (;;) {
    try {
        writeFileSync(output, await (await fetch(url)).text());
        break;
    } catch (error) {
        if (performance.now() > deadline) {
            throw error;
        }
        await new Promise((wake) => setTimeout(wake, 100));
    }
}
