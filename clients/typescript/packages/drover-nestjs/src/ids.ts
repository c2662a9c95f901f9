/**
 * Converts ids of jobs. Drover accepts no chosen id that consists of digits only, because the ids that Drover makes have 14 digits. Bull
 * allows any number as `jobId`, so a numeric `jobId` gets a prefix in Drover, which applications do not see.
 */
import type { JobId } from "./types.js";

const PREFIX = "bull:";
const DIGITS = /^[0-9]+$/;
const GIVEN_BY_DROVER = /^[0-9]{14}$/;

/** Returns Drover's form of a `jobId`. */
export function toDroverId(id: JobId): string {
    const text = String(id);
    return DIGITS.test(text) ? PREFIX + text : text;
}

/** Returns the `jobId` that the application sees, for an id in Drover. */
export function fromDroverId(id: string): string {
    return id.startsWith(PREFIX) && DIGITS.test(id.slice(PREFIX.length)) ? id.slice(PREFIX.length) : id;
}

/** Returns the ids that a job with this `jobId` may have in Drover, the likelier id first. */
export function possibleIds(id: JobId): string[] {
    const text = String(id);
    if (!DIGITS.test(text)) {
        return [text];
    }
    return GIVEN_BY_DROVER.test(text) ? [text, PREFIX + text] : [PREFIX + text];
}
