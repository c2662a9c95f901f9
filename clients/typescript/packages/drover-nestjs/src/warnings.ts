/** Warnings through Nest's logger. */
import { Logger } from "@nestjs/common";

const logger = new Logger("Drover");
const given = new Set<string>();

/** Warns the first time in this process. */
export function warnOnce(topic: string, text: string): void {
    if (!given.has(topic)) {
        given.add(topic);
        logger.warn(text);
    }
}
