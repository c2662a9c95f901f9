/**
 * Ids of jobs. Drover reserves ids of only digits for the ids that Drover gives, of 14 digits. Bull allows any number as `jobId`, so such
 * an id has a prefix in Drover, which applications do not see.
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

/** Returns the id that the application sees. */
export function fromDroverId(id: string): string {
    return id.startsWith(PREFIX) && DIGITS.test(id.slice(PREFIX.length)) ? id.slice(PREFIX.length) : id;
}

/** Returns the ids under which Drover may know a job, the likelier first. */
export function possibleIds(id: JobId): string[] {
    const text = String(id);
    if (!DIGITS.test(text)) {
        return [text];
    }
    return GIVEN_BY_DROVER.test(text) ? [text, PREFIX + text] : [PREFIX + text];
}
