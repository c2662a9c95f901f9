/**
 * A job that a worker has leased. The `Lease` exists from the API's answer to the lease request until the API has confirmed the settlement
 * or the lease is lost.
 *
 * The phases of a lease are `running` (the lease is alive, as far as the worker knows), `lapsed` (the deadline passed before the API
 * extended the lease; the API may still accept a completion), `gone` (the API says that the lease is over), `settling` (a settlement was
 * sent), and `settled`. In each phase the handler may still run.
 */
import type { Api, LeasedMessage, Schemas } from "./api.js";
import { CancelledError, DroverError, LeaseLostError, TimedOutError, WorkerClosedError, kindOf, messageOf, toError } from "./errors.js";
import { type Job, type Run, createJob, handled, refreshJob } from "./job.js";
import type { Settlement, Settler } from "./settler.js";

/** The time (ms) after the `timeout` of a run for which the API accepts a settlement. */
const RUN_TIMEOUT_GRACE = 500;
/**
 * The longest time (ms) between two extensions of a lease. Extensions are frequent, because only their answers tell the worker that a job
 * is cancelled.
 */
const LONGEST_RENEWAL = 10_000;
/** The maximum size of a result or of progress as JSON, in bytes. */
const MAX_VALUE_BYTES = 65_536;

/** The way in which a lease ended. */
export type End =
    | { kind: "completed"; value: unknown }
    | { kind: "failed"; error: Error }
    | { kind: "released" }
    | { kind: "lost"; error: Error };

export interface LeaseOwner {
    readonly api: Api;
    readonly settler: Settler;
    /** Stops the extensions of a lease that is over or is being settled. */
    stopExtending(lease: Lease): void;
    reported(job: Job, value: unknown): void;
    ended(job: Job, end: End): void;
    failed(error: Error): void;
}

/** The outcome of a run: the action that the worker sends to the API, and the end of the lease if the API accepts the action. */
interface Decision {
    readonly action: Record<string, unknown> & { action: "complete" | "fail" | "release" };
    readonly end: End;
    /** The result of the job as JSON text. */
    readonly result?: string;
}

/** A value of progress that the API has not stored yet. */
class Report {
    readonly stored: Promise<void>;
    resolve!: () => void;
    reject!: (error: Error) => void;

    constructor(
        readonly value: unknown,
        readonly json: string,
    ) {
        this.stored = handled(
            new Promise((resolve, reject) => {
                this.resolve = resolve;
                this.reject = reject;
            }),
        );
    }
}

export class Lease implements Run {
    readonly token: string;
    readonly job: Job;
    readonly #owner: LeaseOwner;
    readonly #abort = new AbortController();
    /** The time (ms) for which an extension of the lease lasts. */
    readonly #visibility: number;
    readonly #timeout: number | null;
    /** The instant at which the run's `timeout` ends, by `performance.now()`. */
    readonly runEnd: number;
    /** The instant at which the lease lapses unless it is extended. */
    deadline: number;
    /** The instant of the next extension of the lease; infinity while the API has not answered an extension. */
    renewAt: number;
    #phase: "running" | "lapsed" | "gone" | "settling" | "settled" = "running";
    #isDiscarded = false;
    #isReported = false;
    /** Whether a report of progress is on its way. */
    #isReporting = false;
    /** The newest report of progress, which waits for the end of the one on its way. */
    #waitingReport: Report | undefined;

    constructor(owner: LeaseOwner, message: LeasedMessage, arrival: number) {
        this.#owner = owner;
        this.token = message.lease;
        const length = Date.parse(message.lease_expires_at) - Date.parse(message.started_at ?? message.lease_expires_at);
        this.#visibility = Math.max(length, 100);
        this.#timeout = message.timeout;
        this.runEnd = message.timeout === null ? Infinity : arrival + message.timeout;
        this.deadline = arrival + this.#visibility;
        this.renewAt = arrival + this.renewal;
        this.job = createJob(owner.api, message, this);
    }

    get signal(): AbortSignal {
        return this.#abort.signal;
    }

    get isRunning(): boolean {
        return this.#phase === "running";
    }

    /** The time (ms) between two extensions of the lease. */
    get renewal(): number {
        return Math.min(this.#visibility / 3, LONGEST_RENEWAL);
    }

    /** The instant at which the heartbeat must extend or end this lease. */
    get nextCheck(): number {
        const runEnd = this.#abort.signal.aborted ? Infinity : this.runEnd;
        return Math.min(this.renewAt, this.deadline, runEnd);
    }

    /** Records the API's answer to an extension of the lease. The extension was sent at `sentAt`. */
    extended(result: Schemas["LeaseResult"], sentAt: number): void {
        if (this.#phase !== "running") {
            return;
        }
        if (result.outcome !== "extended") {
            this.#lose("gone", "the API says that the lease is over");
            return;
        }
        this.deadline = Math.max(this.deadline, Math.min(sentAt + this.#visibility, this.runEnd + RUN_TIMEOUT_GRACE));
        this.renewAt = sentAt + this.renewal;
        if (result.cancel_requested) {
            this.abort(new CancelledError(this.job.id));
        }
    }

    /** Records that the lease was not extended before its deadline. */
    lapse(): void {
        if (this.#phase === "running") {
            this.#lose("lapsed", "its deadline passed before the API extended it");
        }
    }

    /** Aborts the handler, because the run's `timeout` is over. */
    timeOut(): void {
        this.abort(new TimedOutError(this.job.id, this.#timeout ?? 0));
    }

    abort(reason: Error): void {
        if (!this.#abort.signal.aborted) {
            this.#abort.abort(reason);
        }
    }

    #lose(phase: "lapsed" | "gone", reason: string): void {
        this.#phase = phase;
        this.#owner.stopExtending(this);
        this.abort(new LeaseLostError(this.job.id, reason));
    }

    /** Settles the lease of a handler that returned a value. */
    returned(value: unknown): void {
        if (this.#phase === "gone") {
            this.#end(this.#lostEnd());
        } else if (this.#phase === "running" || this.#phase === "lapsed") {
            let decision: Decision;
            try {
                decision = completion(value);
            } catch (error) {
                decision = this.#failure(error, { retry: false });
            }
            this.#settle(decision);
        }
    }

    /** Settles the lease of a handler that threw an error. */
    threw(thrown: unknown): void {
        if (this.#phase === "settling" || this.#phase === "settled") {
            // The handler has already settled the job itself, so the error is only reported.
            this.#owner.failed(toError(thrown));
        } else if (this.#phase === "running") {
            this.#settle(this.#decide(thrown));
        } else {
            this.#end(this.#lostEnd());
        }
    }

    /** Releases the job of a handler that does not end, unless a settlement is on its way. */
    release(): void {
        if (this.#phase === "running") {
            this.#settle({ action: { action: "release" }, end: { kind: "released" } });
        } else if (this.#phase === "lapsed" || this.#phase === "gone") {
            this.#end(this.#lostEnd());
        }
    }

    async complete(value: unknown): Promise<void> {
        this.#checkUnsettled("lapsed");
        await this.#settleNow(completion(value));
    }

    async fail(error: unknown): Promise<void> {
        this.#checkUnsettled();
        await this.#settleNow(this.#failure(error));
    }

    discard(): void {
        this.#isDiscarded = true;
    }

    /**
     * Reports progress. While one report is on its way, only the newest value waits, so that a handler that does not wait takes little
     * memory: the promise of a waiting value is also that of the values that replace it.
     */
    reportProgress(value: unknown): Promise<void> {
        let json: string;
        try {
            this.#checkUnsettled();
            json = toJson(value, "progress");
        } catch (error) {
            return handled(Promise.reject(toError(error)));
        }
        if (this.#waitingReport) {
            Object.assign(this.#waitingReport, { value, json });
            return this.#waitingReport.stored;
        }
        const report = new Report(value, json);
        if (this.#isReporting) {
            this.#waitingReport = report;
        } else {
            this.#sendReport(report);
        }
        return report.stored;
    }

    #sendReport(report: Report): void {
        this.#isReporting = true;
        const sentAt = performance.now();
        const fail = (error: Error): undefined => {
            report.reject(error);
            this.#isReporting = false;
            this.#sendWaitingReport();
        };
        this.#owner.settler.add({
            json: `{"lease":"${this.token}","action":"extend","progress":${report.json}}`,
            onOutcome: (result) => {
                this.extended(result, sentAt);
                if (result.outcome !== "extended") {
                    fail(new LeaseLostError(this.job.id, "the API says that the lease is over"));
                    return;
                }
                refreshJob(this.job, { progress: report.value });
                this.#owner.reported(this.job, report.value);
                report.resolve();
                this.#isReporting = false;
                this.#sendWaitingReport();
            },
            onRefused: fail,
            onDropped: fail,
        });
    }

    #sendWaitingReport(): void {
        const report = this.#waitingReport;
        this.#waitingReport = undefined;
        if (report) {
            this.#sendReport(report);
        }
    }

    /** Throws an error unless the lease is alive, or has the phase `permitted`. */
    #checkUnsettled(permitted?: "lapsed"): void {
        if (this.#phase === "settling" || this.#phase === "settled") {
            throw new Error(`job ${this.job.id} is settled already: settle a job once, and report progress before`);
        }
        if (this.#phase !== "running" && this.#phase !== permitted) {
            throw this.#lostError();
        }
    }

    #decide(thrown: unknown): Decision {
        const { reason } = this.#abort.signal as { reason: unknown };
        if (reason instanceof WorkerClosedError) {
            return { action: { action: "release" }, end: { kind: "released" } };
        }
        if (reason instanceof CancelledError || reason instanceof TimedOutError) {
            return this.#failure(reason);
        }
        const error = toError(thrown) as Error & { delay?: number; hold?: string; retryAfter?: number };
        const { delay, hold, retryAfter } = error;
        switch (kindOf(error)) {
            case "ReleaseError": {
                const pause = { ...(delay === undefined ? {} : { delay: Math.round(delay) }), ...(hold === undefined ? {} : { hold }) };
                return { action: { action: "release", ...pause }, end: { kind: "released" } };
            }
            case "RetryLaterError":
                return this.#failure(thrown, this.#isDiscarded ? {} : { retry_after: Math.round(retryAfter ?? 0) });
            case "UnrecoverableError":
                return this.#failure(thrown, { retry: false });
            default:
                return this.#failure(thrown);
        }
    }

    #failure(thrown: unknown, fields: Record<string, unknown> = {}): Decision {
        const error = toError(thrown);
        const { code } = error as { code?: unknown };
        const hasCode = typeof code === "string" && /^[\w.:-]{1,128}$/.test(code);
        const reason = { ...(hasCode ? { code } : {}), message: messageOf(thrown) };
        const retry = this.#isDiscarded ? { retry: false } : {};
        return { action: { action: "fail", error: reason, ...fields, ...retry }, end: { kind: "failed", error } };
    }

    #settle(decision: Decision, settled: { resolve?: () => void; reject?: (error: Error) => void } = {}): void {
        this.#sendWaitingReport();
        this.#phase = "settling";
        this.#owner.stopExtending(this);
        this.#owner.settler.add({
            json: toSettlement(this.token, decision),
            onOutcome: ({ outcome }) => {
                this.#phase = "settled";
                const end = outcome === "gone" ? this.#lostEnd() : endOf(outcome, decision);
                this.#end(end, outcome);
                if (end.kind === decision.end.kind) {
                    settled.resolve?.();
                } else {
                    settled.reject?.(end.kind === "failed" || end.kind === "lost" ? end.error : new Error(`the job is ${outcome}`));
                }
            },
            onRefused: (error) => this.#replace(decision, error, settled),
            onDropped: (error) => {
                this.#phase = "settled";
                this.#end({ kind: "lost", error });
                settled.reject?.(error);
            },
        });
    }

    /**
     * Replaces a settlement that the API refused, and would refuse again, by a settlement that fails the job for good with the API's error.
     */
    #replace(refused: Decision, error: DroverError, settled: { reject?: (error: Error) => void }): Settlement | undefined {
        settled.reject?.(error);
        this.#owner.failed(error);
        const reason = new DroverError({ status: error.status, code: "invalid_settlement", detail: error.detail });
        const decision = this.#failure(reason, { retry: false });
        this.#phase = "settled";
        if ((refused.action["error"] as { code?: string } | undefined)?.code === "invalid_settlement") {
            this.#end({ kind: "lost", error });
            return undefined;
        }
        return {
            json: toSettlement(this.token, decision),
            onOutcome: ({ outcome }) => this.#end(outcome === "gone" ? this.#lostEnd() : endOf(outcome, decision), outcome),
            onRefused: (refusal) => {
                this.#end({ kind: "lost", error: refusal });
                return undefined;
            },
            onDropped: (dropped) => this.#end({ kind: "lost", error: dropped }),
        };
    }

    #settleNow(decision: Decision): Promise<void> {
        return new Promise((resolve, reject) => this.#settle(decision, { resolve, reject }));
    }

    #end(end: End, outcome?: Schemas["LeaseResult"]["outcome"]): void {
        if (this.#isReported) {
            return;
        }
        this.#isReported = true;
        this.#phase = this.#phase === "gone" ? "gone" : "settled";
        const attempts = this.job.attemptsMade + 1;
        const at = new Date().toISOString();
        if (end.kind === "completed") {
            refreshJob(this.job, { state: "completed", result: end.value, error: null, attempts_made: attempts, finished_at: at });
        } else if (end.kind === "failed") {
            const { code } = end.error as { code?: unknown };
            const error = { code: typeof code === "string" ? code : "failed", message: messageOf(end.error), attempt: attempts, at };
            refreshJob(this.job, {
                state: outcome === "delayed" || outcome === "waiting" ? outcome : "failed",
                error,
                attempts_made: attempts,
                ...(outcome === "failed" ? { finished_at: at } : {}),
            });
        } else if (end.kind === "released") {
            refreshJob(this.job, { state: outcome === "delayed" || outcome === "held" ? outcome : "waiting" });
        }
        this.#owner.ended(this.job, end);
    }

    #lostError(): Error {
        const { reason } = this.#abort.signal as { reason: unknown };
        return reason instanceof LeaseLostError ? reason : new LeaseLostError(this.job.id, "the API says that the lease is over");
    }

    /**
     * Returns the end of a lost lease. A run that took longer than its `timeout` counts as failed, because the API itself records this
     * failure.
     */
    #lostEnd(): End {
        const { reason } = this.#abort.signal as { reason: unknown };
        return reason instanceof TimedOutError ? { kind: "failed", error: reason } : { kind: "lost", error: this.#lostError() };
    }
}

/** Releases a message whose handler was not started. */
export function releaseUnstarted(settler: Settler, message: LeasedMessage): void {
    const ignore = (): undefined => undefined;
    settler.add({ json: `{"lease":"${message.lease}","action":"release"}`, onOutcome: ignore, onRefused: ignore, onDropped: ignore });
}

/** Returns the end of a lease whose settlement gave the message the state `outcome`. */
function endOf(outcome: Schemas["LeaseResult"]["outcome"], { action, end }: Decision): End {
    if (outcome === "completed") {
        return end.kind === "completed" ? end : { kind: "completed", value: undefined };
    }
    if (end.kind === "completed" || (end.kind === "released" && outcome === "failed")) {
        const message = action.action === "release" ? "the job was cancelled or had expired" : `the API made the job ${outcome}`;
        return { kind: "failed", error: new Error(message) };
    }
    return end;
}

function completion(value: unknown): Decision {
    return { action: { action: "complete" }, result: toJson(value, "result"), end: { kind: "completed", value: value ?? null } };
}

function toSettlement(token: string, { action, result }: Decision): string {
    const fields = JSON.stringify(action);
    const withResult = result === undefined ? "" : `,"result":${result}`;
    return `{"lease":"${token}"${withResult},${fields.slice(1)}`;
}

/** Converts a result or progress to JSON text; undefined becomes null. */
function toJson(value: unknown, kind: "result" | "progress"): string {
    let json: string;
    try {
        json = JSON.stringify(value) ?? "null";
    } catch (error) {
        throw Object.assign(new TypeError(`the ${kind} is not JSON: ${messageOf(error)}`), { code: `invalid_${kind}` });
    }
    const bytes = Buffer.byteLength(json);
    if (bytes > MAX_VALUE_BYTES) {
        const message = `the ${kind} has ${bytes} bytes as JSON, and may have ${MAX_VALUE_BYTES}: store it elsewhere, and return a reference`;
        throw Object.assign(new RangeError(message), { code: `${kind}_too_large` });
    }
    return json;
}
