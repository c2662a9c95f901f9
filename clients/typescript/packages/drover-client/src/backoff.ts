/** Pauses: between repeated requests, and until something changes. */

/** Doubling pauses with jitter, from `first` to `longest` ms. */
export class Backoff {
    readonly #first: number;
    readonly #longest: number;
    #next: number;

    constructor(first = 100, longest = 5_000) {
        this.#first = first;
        this.#longest = longest;
        this.#next = first;
    }

    /** Returns the next pause in ms: between half of the doubling pause and all of it. */
    pause(): number {
        const pause = this.#next * (0.5 + Math.random() / 2);
        this.#next = Math.min(this.#next * 2, this.#longest);
        return pause;
    }

    reset(): void {
        this.#next = this.#first;
    }
}

/** The longest delay of one timer: a longer one would fire at once. */
const MAX_TIMER = 2_147_483_647;

/** Starts a timer, for at most some 24 days. */
export function startTimer(ms: number, callback: () => void): NodeJS.Timeout {
    return setTimeout(callback, Math.min(Math.max(ms, 0), MAX_TIMER));
}

/** Waits; returns early, without an error, when the signal is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
        if (signal?.aborted) {
            resolve();
            return;
        }
        const end = (): void => {
            clearTimeout(timer);
            signal?.removeEventListener("abort", end);
            resolve();
        };
        const timer = startTimer(ms, end);
        signal?.addEventListener("abort", end, { once: true });
    });
}

/** Wakes those who wait for a change. */
export class Notifier {
    readonly #waiting = new Set<() => void>();

    notify(): void {
        for (const wake of [...this.#waiting]) {
            wake();
        }
    }

    /** Waits for the next notification, at most `ms`. */
    wait(ms: number): Promise<void> {
        return new Promise((resolve) => {
            const wake = (): void => {
                clearTimeout(timer);
                this.#waiting.delete(wake);
                resolve();
            };
            const timer = startTimer(ms, wake);
            this.#waiting.add(wake);
        });
    }
}
