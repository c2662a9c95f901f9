/**
 * Converts ids of jobs. Drover accepts no chosen id that consists of digits only, because the ids that Drover makes have 14 digits. Bull
 * allows any number as `jobId`, so a numeric `jobId` gets a prefix in Drover, which applications do not see.
 */
import type { JobId } from "./types.js";

const ID_PREFIX = "bull:";
const ONLY_DIGITS = /^[0-9]+$/;
const GIVEN_BY_DROVER = /^[0-9]{14}$/;

/** Returns Drover's form of a `jobId`. */
export function toDroverId(id: JobId): string {
    const text = String(id);
    return ONLY_DIGITS.test(text) ? ID_PREFIX + text : text;
}

/** Returns the `jobId` that the application sees, for an id in Drover. */
export function fromDroverId(id: string): string {
    return id.startsWith(ID_PREFIX) && ONLY_DIGITS.test(id.slice(ID_PREFIX.length)) ? id.slice(ID_PREFIX.length) : id;
}

/** Returns the ids that a job with this `jobId` may have in Drover, the likelier id first. */
export function possibleIds(id: JobId): string[] {
    const text = String(id);
    if (!ONLY_DIGITS.test(text)) {
        return [text];
    }
    return GIVEN_BY_DROVER.test(text) ? [text, ID_PREFIX + text] : [ID_PREFIX + text];
}
