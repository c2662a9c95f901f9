/** Extends the leases of running handlers, and stops handlers at the deadlines of their leases and at the timeouts of their jobs. */
import type { Api } from "./api.js";
import { Backoff, startTimer } from "./backoff.js";
import { toError } from "./errors.js";
import type { Lease } from "./lease.js";

/** The maximum number of leases that one request extends. */
const MAX_LEASES = 1_000;
/** The shortest and the longest time limit (ms) of a request that extends leases. */
const SHORTEST_LIMIT = 250;
const LONGEST_LIMIT = 15_000;

export class Heartbeat {
    readonly #api: Api;
    readonly #onError: (error: Error) => void;
    readonly #leases = new Set<Lease>();
    readonly #backoff = new Backoff(100, 2_000);
    #timer: NodeJS.Timeout | undefined;
    #timerAt = Infinity;

    constructor(api: Api, onError: (error: Error) => void) {
        this.#api = api;
        this.#onError = onError;
    }

    add(lease: Lease): void {
        this.#leases.add(lease);
        this.#wakeAt(lease.nextCheck);
    }

    remove(lease: Lease): void {
        this.#leases.delete(lease);
        if (this.#leases.size === 0) {
            this.#stopTimer();
        }
    }

    #wakeAt(instant: number): void {
        if (instant < this.#timerAt) {
            clearTimeout(this.#timer);
            this.#timerAt = instant;
            this.#timer = startTimer(Math.ceil(instant - performance.now()), () => this.#check());
        }
    }

    #stopTimer(): void {
        clearTimeout(this.#timer);
        this.#timerAt = Infinity;
    }

    #check(): void {
        this.#stopTimer();
        const now = performance.now();
        const due: Lease[] = [];
        let next = Infinity;
        for (const lease of this.#leases) {
            if (lease.runEnd <= now) {
                lease.timeOut();
            }
            if (lease.deadline <= now) {
                lease.lapse();
                continue;
            }
            // A lease that must be extended soon is extended now, together with the due leases, in one request.
            if (lease.renewAt <= now + lease.renewal / 4) {
                lease.renewAt = Infinity;
                due.push(lease);
            }
            next = Math.min(next, lease.nextCheck);
        }
        this.#wakeAt(next);
        for (let start = 0; start < due.length; start += MAX_LEASES) {
            void this.#extend(due.slice(start, start + MAX_LEASES));
        }
    }

    async #extend(leases: Lease[]): Promise<void> {
        const settlements = leases.map(({ token }) => `{"lease":"${token}","action":"extend"}`);
        const renewal = Math.min(...leases.map((lease) => lease.renewal));
        const limit = Math.min(Math.max(renewal, SHORTEST_LIMIT), LONGEST_LIMIT);
        const sentAt = performance.now();
        try {
            const body = `{"settlements":[${settlements.join(",")}]}`;
            const answer = await this.#api.post("/v1/queues/{queue}/leases/settle", body, { limit }).answer;
            this.#backoff.reset();
            for (const [index, lease] of leases.entries()) {
                const result = answer.settlements[index];
                if (result) {
                    lease.extended(result, sentAt);
                }
            }
        } catch (error) {
            const retryAt = performance.now() + Math.min(this.#backoff.pause(), renewal / 2);
            for (const lease of leases) {
                lease.renewAt = retryAt;
            }
            this.#onError(toError(error));
        }
        for (const lease of leases) {
            if (this.#leases.has(lease)) {
                this.#wakeAt(lease.nextCheck);
            }
        }
    }
}
