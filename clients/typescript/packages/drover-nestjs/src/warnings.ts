/** Writes warnings to Nest's logger. */
import { Logger } from "@nestjs/common";

const logger = new Logger("Drover");
const given = new Set<string>();

/** Writes a warning, but only the first warning about this topic in the process. */
export function warnOnce(topic: string, text: string): void {
    if (!given.has(topic)) {
        given.add(topic);
        logger.warn(text);
    }
}
