/** The errors that this package throws, and the errors that a handler throws to decide what happens to its job. */

/** One mistake in a request: the JSON pointer of the wrong field, and the text that says what is wrong. */
export interface FieldMistake {
    pointer: string;
    detail: string;
}

/** The fields of an error answer of the API (RFC 9457). */
export interface Problem {
    status: number;
    code: string;
    detail: string;
    request_id?: string;
    errors?: FieldMistake[];
}

/** The API refused a request. `code` is one of the codes in Drover's docs/API.md. */
export class DroverError extends Error {
    override readonly name: string = "DroverError";
    /** The status of the HTTP answer. */
    readonly status: number;
    /** A word that programs can match, such as `queue_full`. */
    readonly code: string;
    /** The text that says what is wrong and what to do. */
    readonly detail: string;
    /** The id of the request, which the API's log also contains. */
    readonly requestId: string | undefined;
    /** The wrong fields of the request that the API reports. */
    readonly errors: readonly FieldMistake[];

    constructor(problem: Problem, request?: string) {
        super(`${request === undefined ? "" : `${request}: `}${problem.code} (${problem.status}): ${problem.detail}`);
        this.status = problem.status;
        this.code = problem.code;
        this.detail = problem.detail;
        this.requestId = problem.request_id;
        this.errors = problem.errors ?? [];
    }
}

/** The API could not be reached, or did not answer in time. `code` is the system's code, such as `ECONNREFUSED`. */
export class ConnectionError extends Error {
    override readonly name: string = "ConnectionError";
    readonly code: string;

    constructor(message: string, code: string, options?: ErrorOptions) {
        super(message, options);
        this.code = code;
    }
}

/** A call of `addBulk` failed after a part of its jobs was stored. `cause` is the error of the request that failed. */
export class PartialBulkError<J = unknown> extends Error {
    override readonly name: string = "PartialBulkError";
    /** The stored jobs, which are the first jobs of the call of `addBulk`. The call's other jobs may be sent again. */
    readonly added: readonly J[];

    constructor(added: readonly J[], cause: unknown) {
        super(`only the first ${added.length} jobs are stored: ${cause instanceof Error ? cause.message : String(cause)}`, {
            cause,
        });
        this.added = added;
    }
}

/** The job that `waitUntilFinished` waited for has failed. `code` and the message are those of the job's last error. */
export class JobFailedError extends Error {
    override readonly name: string = "JobFailedError";
    readonly code: string;
    readonly jobId: string;

    constructor(jobId: string, code: string, message: string) {
        super(message);
        this.jobId = jobId;
        this.code = code;
    }
}

/** The job that `waitUntilFinished` waited for did not finish within `ttl`. */
export class WaitTimeoutError extends Error {
    override readonly name: string = "WaitTimeoutError";
    readonly code = "wait_timeout";
}

// The worker recognizes the errors that handlers throw by a field or by their names, and not by `instanceof`, because a program may contain
// this package twice: as ES module and as CommonJS.

const KIND = Symbol.for("drover-client.kind");

/**
 * Returns the name of the class of this file of which the thrown error is an instance, even if a subclass has another name; for any other
 * error, returns the error's name.
 */
export function kindOf(error: Error): string {
    const { [KIND]: kind } = error as { [KIND]?: unknown };
    return typeof kind === "string" ? kind : error.name;
}

/** Thrown by a handler: the job fails for good, whatever attempts are left. */
export class UnrecoverableError extends Error {
    override name = "UnrecoverableError";

    /** @internal */
    get [KIND](): string {
        return "UnrecoverableError";
    }
}

/** Thrown by a handler: the attempt fails, and the next attempt follows after `retryAfter` ms instead of the back-off. */
export class RetryLaterError extends Error {
    override name = "RetryLaterError";
    readonly retryAfter: number;

    /** @internal */
    get [KIND](): string {
        return "RetryLaterError";
    }

    constructor(retryAfter: number, message = "the handler asked for a later attempt", options?: ErrorOptions) {
        super(message, options);
        this.retryAfter = retryAfter;
    }
}

/**
 * Thrown by a handler: the job returns to its queue and no attempt is counted. With `delay` (ms) the job is delayed; with `hold` the job
 * waits for the signal of this key; without both, the job goes to the head of the queue.
 */
export class ReleaseError extends Error {
    override name = "ReleaseError";
    readonly delay: number | undefined;
    readonly hold: string | undefined;

    /** @internal */
    get [KIND](): string {
        return "ReleaseError";
    }

    constructor(until?: number | { hold: string }, message = "the handler released the job") {
        super(message);
        this.delay = typeof until === "number" ? until : undefined;
        this.hold = typeof until === "object" ? until.hold : undefined;
    }
}

// The worker aborts the signal of a handler with one of the errors `LeaseLostError`, `CancelledError`, `TimedOutError` and
// `WorkerClosedError`.

/** The lease of the handler's job is over. The handler should stop, because another worker may have the job. */
export class LeaseLostError extends Error {
    override readonly name: string = "LeaseLostError";
    readonly code = "lease_lost";
    readonly jobId: string;

    constructor(jobId: string, reason: string) {
        super(`the lease of job ${jobId} is lost: ${reason}`);
        this.jobId = jobId;
    }
}

/**
 * The handler's job was cancelled. If the handler then throws, the job fails as `cancelled`; if the handler returns a value, the job is
 * completed.
 */
export class CancelledError extends Error {
    override readonly name: string = "CancelledError";
    readonly code = "cancelled";
    readonly jobId: string;

    constructor(jobId: string) {
        super(`job ${jobId} was cancelled`);
        this.jobId = jobId;
    }
}

/** The run of the handler took longer than the job's `timeout`. Drover ends the lease 0.5 s after the timeout. */
export class TimedOutError extends Error {
    override readonly name: string = "TimedOutError";
    readonly code = "timed_out";
    readonly jobId: string;

    constructor(jobId: string, timeout: number) {
        super(`the run of job ${jobId} took longer than its timeout of ${timeout} ms`);
        this.jobId = jobId;
    }
}

/** The worker closes, and its `closeTimeout` is over. The job is released unless the handler returns a value within 1 s. */
export class WorkerClosedError extends Error {
    override readonly name: string = "WorkerClosedError";
    readonly code = "worker_closed";
}

/** Returns the error text of a thrown value, which need not be an `Error`. */
export function messageOf(thrown: unknown): string {
    if (thrown instanceof Error) {
        return thrown.message || thrown.name;
    }
    if (typeof thrown === "object" && thrown !== null && "message" in thrown && typeof thrown.message === "string") {
        return thrown.message;
    }
    try {
        return typeof thrown === "string" ? thrown : (JSON.stringify(thrown) ?? String(thrown));
    } catch {
        return "the handler threw a value that has no text";
    }
}

/** Converts a thrown value, which need not be an `Error`, to an `Error`. */
export function toError(thrown: unknown): Error {
    return thrown instanceof Error ? thrown : new Error(messageOf(thrown), { cause: thrown });
}
