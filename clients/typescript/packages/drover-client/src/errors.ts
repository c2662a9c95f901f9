/** The errors that the client raises, and the errors by which a handler decides what happens to its job. */

/** One mistake in a request: the JSON pointer of the wrong field, and what is wrong. */
export interface FieldMistake {
    pointer: string;
    detail: string;
}

/** The parts of an error answer (RFC 9457). */
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
    /** What is wrong, and what to do. */
    readonly detail: string;
    /** The id of the request, as in the API's log. */
    readonly requestId: string | undefined;
    /** The first wrong field of the request. */
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

/** `addBulk` failed after a part of the jobs was stored. `cause` is the error. */
export class PartialBulkError<J = unknown> extends Error {
    override readonly name: string = "PartialBulkError";
    /** The jobs that are stored, the first of the call. The jobs after them may be sent again. */
    readonly added: readonly J[];

    constructor(added: readonly J[], cause: unknown) {
        super(`only the first ${added.length} jobs are stored: ${cause instanceof Error ? cause.message : String(cause)}`, {
            cause,
        });
        this.added = added;
    }
}

/** `waitUntilFinished`: the job failed. `code` and the message are those of the job's last error. */
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

/** `waitUntilFinished`: the job did not finish within the time given. */
export class WaitTimeoutError extends Error {
    override readonly name: string = "WaitTimeoutError";
    readonly code = "wait_timeout";
}

// A handler throws the following errors. The worker recognizes them by a field, because a program may contain this package twice, as
// ES module and as CommonJS, and by their names.

const KIND = Symbol.for("drover-client.kind");

/** Returns the name of the class below whose instance was thrown, also for a subclass with a name of its own; otherwise the error's name. */
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

// The following errors are reasons of a handler's abort signal.

/** The lease of the job is over: another worker may have the job. The handler should stop. */
export class LeaseLostError extends Error {
    override readonly name: string = "LeaseLostError";
    readonly code = "lease_lost";
    readonly jobId: string;

    constructor(jobId: string, reason: string) {
        super(`the lease of job ${jobId} is lost: ${reason}`);
        this.jobId = jobId;
    }
}

/** The job was cancelled. A handler that throws fails the job as `cancelled`; a handler that returns a value still completes the job. */
export class CancelledError extends Error {
    override readonly name: string = "CancelledError";
    readonly code = "cancelled";
    readonly jobId: string;

    constructor(jobId: string) {
        super(`job ${jobId} was cancelled`);
        this.jobId = jobId;
    }
}

/** The run took longer than the job's `timeout`. Drover ends the lease 0.5 s later. */
export class TimedOutError extends Error {
    override readonly name: string = "TimedOutError";
    readonly code = "timed_out";
    readonly jobId: string;

    constructor(jobId: string, timeout: number) {
        super(`the run of job ${jobId} took longer than its timeout of ${timeout} ms`);
        this.jobId = jobId;
    }
}

/** The worker closes, and the time for its handlers is over. The job is released, unless the handler returns a value within 1 s. */
export class WorkerClosedError extends Error {
    override readonly name: string = "WorkerClosedError";
    readonly code = "worker_closed";
}

/** Returns the text of anything that was thrown. */
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

/** Returns anything that was thrown as an `Error`. */
export function toError(thrown: unknown): Error {
    return thrown instanceof Error ? thrown : new Error(messageOf(thrown), { cause: thrown });
}
