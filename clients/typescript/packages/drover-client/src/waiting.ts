/** Waits until a job has finished, by long polls that are repeated while the API is not available. */
import { Backoff } from "./backoff.js";
import { DroverError, JobFailedError, WaitTimeoutError } from "./errors.js";
import { ANSWER_LIMIT, type Http, checkTime, isTemporary, retryAfterOf } from "./http.js";
import type { Job } from "./job.js";

/** The longest time (ms) for which one request waits for a job to finish. */
const LONGEST_WAIT = 20_000;
const SHORTEST_WAIT = 1_000;
/** The shortest time limit (ms) for the answer to a long poll. */
const SHORTEST_LIMIT = 1_000;

/**
 * Waits until the job has finished, for at most `ttl` ms, and throws an error unless the job is completed. `read` sends one request that
 * reads the job: the API answers when the job has finished or after `wait` ms, and the answer may take `limit` ms longer. `read` returns
 * false if the job is forgotten.
 */
export async function waitUntilFinished(
    job: Job<any, any>,
    http: Http,
    ttl: number | undefined,
    read: (wait: number, limit: number) => Promise<boolean>,
): Promise<void> {
    const deadline = ttl === undefined ? Infinity : performance.now() + checkTime("ttl", ttl);
    const timeout = (cause?: unknown): WaitTimeoutError =>
        new WaitTimeoutError(`job ${job.id} did not finish within ${ttl} ms; its state is ${job.state}`, cause === undefined ? {} : { cause });
    const backoff = new Backoff();
    let longest = LONGEST_WAIT;
    /** The instant at which the wait ends because the API does not answer; infinity while the API answers. */
    let awayUntil = Infinity;
    for (let isFirst = true; ; isFirst = false) {
        const left = deadline - performance.now();
        if (left <= 0 && !isFirst) {
            throw timeout();
        }
        const wait = Math.max(0, Math.min(longest, Math.ceil(left)));
        try {
            if (!(await read(wait, Math.min(ANSWER_LIMIT, Math.max(SHORTEST_LIMIT, left - wait))))) {
                const detail = `job ${job.id} is forgotten, so its result is not known: raise the queue's retention`;
                throw new DroverError({ status: 404, code: "message_not_found", detail });
            }
        } catch (error) {
            if (error instanceof DroverError && error.code === "invalid_query" && longest > SHORTEST_WAIT) {
                // The API refused the wait, because the wait is longer than the API's setting `api.max_wait`.
                longest = Math.max(Math.floor(longest / 2), SHORTEST_WAIT);
                continue;
            }
            if (!isTemporary(error) || http.isClosed) {
                throw error;
            }
            const now = performance.now();
            awayUntil = Math.min(awayUntil, now + http.timeout);
            const pause = Math.max(backoff.pause(), retryAfterOf(error));
            if (now + pause > awayUntil && awayUntil < deadline) {
                throw error;
            }
            await http.pause(Math.min(pause, deadline - now));
            if (now + pause > deadline && !http.isClosed) {
                throw timeout(error);
            }
            continue;
        }
        awayUntil = Infinity;
        backoff.reset();
        if (job.state === "completed") {
            return;
        }
        if (job.state === "failed") {
            const { code, message } = job.error ?? { code: "failed", message: "the job failed" };
            throw new JobFailedError(job.id, code, message);
        }
    }
}
