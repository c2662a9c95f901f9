/** The pauses between repeated requests, and waits for a notification. */

/** Computes pauses with jitter that double from `first` to `longest` ms. */
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

/** The longest delay (ms) of a timer of Node: a timer with a longer delay would fire at once. */
const MAX_TIMER = 2_147_483_647;

/** Starts a timer. A delay of more than 24 days is shortened to 24 days. */
export function startTimer(ms: number, callback: () => void): NodeJS.Timeout {
    return setTimeout(callback, Math.min(Math.max(ms, 0), MAX_TIMER));
}

/** Waits `ms` milliseconds. The wait ends early, without an error, when the signal is aborted. */
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

/** Wakes the callers of `wait` when `notify` is called. */
export class Notifier {
    readonly #waiting = new Set<() => void>();

    notify(): void {
        for (const wake of [...this.#waiting]) {
            wake();
        }
    }

    /** Waits for the next notification, for at most `ms` milliseconds. */
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
