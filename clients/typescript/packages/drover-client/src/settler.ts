/** Sends settlements in batches, one request at a time, and repeats each request until the API has answered. */
import type { Api, Schemas } from "./api.js";
import { Backoff, sleep } from "./backoff.js";
import { DroverError, toError } from "./errors.js";
import { isTemporary, retryAfterOf } from "./http.js";

export type LeaseResult = Schemas["LeaseResult"];

export interface Settlement {
    /** The settlement as JSON text. */
    readonly json: string;
    onOutcome(result: LeaseResult): void;
    /** Handles the API's refusal of this settlement. The settler then sends the settlement that `onRefused` returns, if any. */
    onRefused(error: DroverError): Settlement | undefined;
    /** Handles the end of the settler, which gives up a settlement that the API has not confirmed in time. */
    onDropped(error: Error): void;
}

/** The maximum number of settlements in one request, and their maximum size in bytes. */
const MAX_SETTLEMENTS = 1_000;
const MAX_BYTES = 512 * 1_024;
/** The pause (ms) after an error that only an operator can correct, such as a wrong key. */
const LONG_PAUSE = 30_000;
/** The number of answers 500 to a request with one settlement after which the settlement counts as refused. */
const MAX_SERVER_FAILURES = 5;

export class Settler {
    readonly #api: Api;
    readonly #onError: (error: Error) => void;
    readonly #onProgress: () => void;
    readonly #backoff = new Backoff();
    readonly #serverFailures = new Map<Settlement, number>();
    #waiting: Settlement[] = [];
    #inFlight: Settlement[] = [];
    #isSending = false;
    #maxSettlements = MAX_SETTLEMENTS;
    #maxBytes = MAX_BYTES;
    /** Aborting `#hurry` ends the current pause. */
    #hurry = new AbortController();
    #isEnded = false;
    #onEmpty: (() => void) | undefined;

    /** `onProgress` is called whenever fewer settlements wait. */
    constructor(api: Api, onError: (error: Error) => void, onProgress: () => void) {
        this.#api = api;
        this.#onError = onError;
        this.#onProgress = onProgress;
    }

    /** The number of settlements that are not confirmed. */
    get size(): number {
        return this.#waiting.length + this.#inFlight.length;
    }

    add(settlement: Settlement): void {
        if (this.#isEnded) {
            settlement.onDropped(new Error("the worker is closed"));
            return;
        }
        this.#waiting.push(settlement);
        if (!this.#isSending) {
            this.#isSending = true;
            // Settlements that are added in the same turn of Node's event loop are sent in the same request.
            setImmediate(() => void this.#sendAll());
        }
    }

    /**
     * Waits until all settlements are confirmed, for at most `limit` ms; then gives up the unconfirmed settlements, and accepts no more
     * settlements.
     */
    async end(limit: number): Promise<void> {
        if (this.size > 0) {
            this.#backoff.reset();
            this.#hurry.abort();
            const isEmpty = new AbortController();
            this.#onEmpty = () => isEmpty.abort();
            await sleep(limit, isEmpty.signal);
        }
        this.#isEnded = true;
        this.#hurry.abort();
        const dropped = [...this.#inFlight.splice(0), ...this.#waiting.splice(0)];
        for (const settlement of dropped) {
            settlement.onDropped(new Error("the worker closed before the API confirmed the settlement"));
        }
    }

    async #sendAll(): Promise<void> {
        while (this.#waiting.length > 0) {
            this.#inFlight = this.#takeBatch();
            const pause = await this.#sendBatch(this.#inFlight);
            this.#onProgress();
            if (pause > 0 && !this.#isEnded) {
                await sleep(pause, this.#hurry.signal);
                this.#hurry = this.#hurry.signal.aborted && !this.#isEnded ? new AbortController() : this.#hurry;
            }
        }
        this.#isSending = false;
        this.#onEmpty?.();
    }

    #takeBatch(): Settlement[] {
        let count = 0;
        let bytes = 0;
        for (const { json } of this.#waiting) {
            bytes += Buffer.byteLength(json) + 1;
            if (count > 0 && (count === this.#maxSettlements || bytes > this.#maxBytes)) {
                break;
            }
            count += 1;
        }
        return this.#waiting.splice(0, count);
    }

    /** Sends a batch of settlements. Returns the pause (ms) before the next request. */
    async #sendBatch(batch: Settlement[]): Promise<number> {
        const body = `{"settlements":[${batch.map(({ json }) => json).join(",")}]}`;
        let results: LeaseResult[];
        try {
            results = (await this.#api.post("/v1/queues/{queue}/leases/settle", body, {}).answer).settlements;
        } catch (error) {
            return this.#isEnded ? 0 : this.#recover(batch, toError(error));
        }
        this.#confirm(batch, results);
        return 0;
    }

    #confirm(batch: Settlement[], results: LeaseResult[]): void {
        if (this.#isEnded) {
            return;
        }
        this.#inFlight = [];
        this.#backoff.reset();
        this.#maxSettlements = Math.min(this.#maxSettlements * 2, MAX_SETTLEMENTS);
        for (const [index, settlement] of batch.entries()) {
            this.#serverFailures.delete(settlement);
            settlement.onOutcome(results[index] ?? { lease: "", outcome: "gone" });
        }
    }

    /** Decides which settlements of a failed request are sent again. Returns the pause (ms) before the next request. */
    #recover(batch: Settlement[], error: Error): number {
        this.#inFlight = [];
        const [only] = batch;
        if (error instanceof DroverError && [400, 413, 422].includes(error.status) && only) {
            // The API does not accept one of the settlements, and the other settlements must not wait for that one.
            const index = batch.length === 1 ? 0 : Number(/^\/settlements\/([0-9]+)(?:\/|$)/.exec(error.errors[0]?.pointer ?? "")?.[1] ?? NaN);
            const refused = batch[index];
            if (refused) {
                batch.splice(index, 1);
                this.#waiting.unshift(...batch);
                this.#refuse(refused, error);
            } else {
                this.#maxSettlements = Math.max(1, Math.floor(batch.length / 2));
                this.#waiting.unshift(...batch);
            }
            return 0;
        }
        this.#onError(error);
        if (error instanceof DroverError && error.status === 500 && only) {
            // One settlement may make the API fail, so smaller requests find that settlement.
            this.#maxSettlements = Math.max(1, Math.floor(batch.length / 2));
            const failures = (this.#serverFailures.get(only) ?? 0) + 1;
            if (batch.length > 1) {
                this.#waiting.unshift(...batch);
            } else if (failures >= MAX_SERVER_FAILURES) {
                this.#refuse(only, error);
            } else {
                this.#serverFailures.set(only, failures);
                this.#waiting.push(only);
            }
            return this.#backoff.pause();
        }
        this.#waiting.unshift(...batch);
        return isTemporary(error) ? Math.max(this.#backoff.pause(), retryAfterOf(error)) : LONG_PAUSE;
    }

    #refuse(refused: Settlement, error: DroverError): void {
        this.#serverFailures.delete(refused);
        const instead = refused.onRefused(error);
        if (instead !== undefined) {
            this.#waiting.push(instead);
        }
    }
}
