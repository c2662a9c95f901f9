/** Converts Bull's options `limiter`, `settings`, and `removeOn…` in `defaultJobOptions` to settings of a queue. */
import { DroverError, type Queue as DroverQueue } from "drover-client";

import type { KeepJobsOptions, QueueOptions } from "./types.js";
import { QUEUE_OPTIONS, unsupported, UnsupportedError } from "./unsupported.js";

export type SettingsPatch = Parameters<DroverQueue["updateSettings"]>[0];

const KNOWN_OPTIONS: ReadonlySet<string> = new Set<keyof QueueOptions>([
    ...(["url", "key", "timeout", "limiter", "defaultJobOptions", "settings", "closeTimeout"] as const),
]);

/** Throws an error if an option of a queue is not supported by Drover, or is unknown. */
export function checkQueueOptions(options: QueueOptions): void {
    for (const [option, value] of Object.entries(options)) {
        if (value === undefined || KNOWN_OPTIONS.has(option)) {
            continue;
        }
        if (option in QUEUE_OPTIONS) {
            throw unsupported(QUEUE_OPTIONS, option);
        }
        throw new UnsupportedError(option, "neither Bull nor Drover has this option of a queue; leave it out");
    }
    const { url, limiter, settings } = options;
    if (url && !/^https?:\/\//.test(url)) {
        throw new TypeError("url is not the address of Drover's API: give one such as http://127.0.0.1:8080");
    }
    if (limiter?.groupKey !== undefined) {
        throw new UnsupportedError("limiter.groupKey", "add jobs with opts.group, and set the queue's groups.concurrency");
    }
    if (limiter && !(limiter.max > 0 && limiter.duration > 0)) {
        throw new TypeError("limiter needs max, a number of jobs, and duration, milliseconds");
    }
    const [strategy] = Object.keys(settings?.backoffStrategies ?? {});
    if (strategy !== undefined) {
        const instead = "use fixed or exponential, or throw a RetryLaterError of drover-client in the handler to choose each pause";
        throw new UnsupportedError(`settings.backoffStrategies.${strategy}`, instead);
    }
}

/** Returns the settings that Bull's options change, or undefined if the options change no setting. */
export function settingsOf({ limiter, settings, defaultJobOptions }: QueueOptions): SettingsPatch | undefined {
    const completed = retentionOf(defaultJobOptions?.removeOnComplete);
    const failed = retentionOf(defaultJobOptions?.removeOnFail);
    const patch: SettingsPatch = {
        ...(limiter ? { rate_limit: { max: limiter.max, duration: limiter.duration } } : {}),
        ...(settings?.maxStalledCount === undefined ? {} : { max_lapses: settings.maxStalledCount + 1 }),
        ...(completed || failed ? { retention: { ...(completed ? { completed } : {}), ...(failed ? { failed } : {}) } } : {}),
    };
    return Object.keys(patch).length === 0 ? undefined : patch;
}

/** With `removeOn…: false`, the queue keeps Drover's default retention, which forgets jobs in the end. */
function retentionOf(keep: boolean | number | KeepJobsOptions | undefined): { age?: number; count?: number } | undefined {
    if (keep === undefined || keep === null || keep === false) {
        return undefined;
    }
    if (keep === true) {
        return { count: 0 };
    }
    if (typeof keep === "number") {
        return { count: keep };
    }
    const { age, count } = keep;
    return { ...(age === undefined ? {} : { age: Math.round(age * 1_000) }), ...(count === undefined ? {} : { count }) };
}

/** The pause before the settings of a queue are sent again, in milliseconds. */
const RETRY_PAUSE = 2_000;
/** The pause (ms) after an error that only another key or another configuration can correct. */
const LONG_PAUSE = 30_000;

/** The statuses of answers that a repeated request would get again. The status 403 means that the key may not change settings. */
const FINAL_STATUSES: ReadonlySet<number> = new Set([403, 409, 422]);

/**
 * Sends the settings of a queue again and again until the API accepts the settings. `onError` gets each error. Returns without success if
 * the signal is aborted, or if the API will never accept the settings with this key; the queue then keeps its present settings.
 */
export async function applySettings(
    queue: DroverQueue<any>,
    patch: SettingsPatch,
    { signal, onError }: { signal: AbortSignal; onError: (error: Error) => void },
): Promise<void> {
    while (!signal.aborted) {
        try {
            await queue.updateSettings(patch);
            return;
        } catch (error) {
            if (signal.aborted) {
                return;
            }
            onError(error as Error);
            if (error instanceof DroverError && FINAL_STATUSES.has(error.status)) {
                return;
            }
            await pause(error instanceof DroverError && error.status < 500 ? LONG_PAUSE : RETRY_PAUSE, signal);
        }
    }
}

/** Waits this number of milliseconds. The wait ends early if the signal is aborted. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
        const end = (): void => {
            clearTimeout(timer);
            signal.removeEventListener("abort", end);
            resolve();
        };
        const timer = setTimeout(end, milliseconds);
        signal.addEventListener("abort", end, { once: true });
        if (signal.aborted) {
            end();
        }
    });
}
