/** Reads the API's event stream, from which a queue emits Bull's events of all processes (`global:…`). */
import type { BullQueueGlobalEvents } from "./nest-events.js";
import { fromDroverId } from "./ids.js";
import { pause } from "./settings.js";

/** An event of the API's event stream. */
export interface StreamedEvent {
    event: string;
    data: { id: string; state: string | null; progress?: unknown; error?: { message?: string } };
}

export interface StreamOptions {
    /** The URL of the event stream. */
    url: string;
    key: string | undefined;
    onEvent: (event: StreamedEvent) => Promise<void> | void;
    /** Creates the queue if the API has no such queue, because an event stream needs an existing queue. */
    onMissing: () => Promise<void>;
    onError: (error: Error) => void;
}

/** The time (ms) without bytes after which a connection counts as broken. The API sends bytes at least every 15 s. */
const SILENCE_LIMIT = 45_000;
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 5_000;
/** The maximum length of an event; the API sends no longer event. */
const LONGEST_EVENT = 1_048_576;

/** Reads the event stream until `stop` is called. After a broken connection, the next connection resumes after the last event. */
export class EventStream {
    readonly #stop = new AbortController();
    readonly #options: StreamOptions;
    #lastId: string | undefined;
    #pause = FIRST_PAUSE;
    readonly #ended: Promise<void>;

    constructor(options: StreamOptions) {
        this.#options = options;
        this.#ended = this.#run();
    }

    stop(): Promise<void> {
        this.#stop.abort();
        return this.#ended;
    }

    async #run(): Promise<void> {
        const { signal } = this.#stop;
        while (!signal.aborted) {
            try {
                await this.#read();
            } catch (error) {
                if (!signal.aborted) {
                    this.#options.onError(error instanceof Error ? error : new Error(String(error)));
                }
            }
            await pause(this.#pause * (0.5 + Math.random() / 2), signal);
            this.#pause = Math.min(LONGEST_PAUSE, this.#pause * 2);
        }
    }

    /** Reads the events of one connection until the connection ends. */
    async #read(): Promise<void> {
        const silence = new AbortController();
        const { url, key } = this.#options;
        const listen = (): NodeJS.Timeout =>
            setTimeout(() => silence.abort(new Error("the event stream was silent for too long")), SILENCE_LIMIT);
        let timer = listen();
        try {
            const response = await fetch(url, {
                headers: {
                    accept: "text/event-stream",
                    ...(key ? { authorization: `Bearer ${key}` } : {}),
                    ...(this.#lastId === undefined ? {} : { "last-event-id": this.#lastId }),
                },
                signal: AbortSignal.any([this.#stop.signal, silence.signal]),
            });
            if (!response.ok || !response.body) {
                await response.body?.cancel();
                if (response.status === 404) {
                    await this.#options.onMissing();
                    return;
                }
                throw new Error(`the API refused the event stream with ${response.status}`);
            }
            let rest = "";
            const decoder = new TextDecoder();
            for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
                clearTimeout(timer);
                this.#pause = FIRST_PAUSE;
                rest += decoder.decode(chunk, { stream: true });
                const blocks = rest.split("\n\n");
                rest = blocks.pop() ?? "";
                if (rest.length > LONGEST_EVENT) {
                    throw new Error("the event stream sent an event that is too long");
                }
                for (const block of blocks) {
                    await this.#handle(block);
                }
                timer = listen();
            }
        } finally {
            clearTimeout(timer);
        }
    }

    async #handle(block: string): Promise<void> {
        let event = "";
        let data = "";
        for (const line of block.split("\n")) {
            const [, field, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
            if (field === "id") {
                this.#lastId = value;
            } else if (field === "event") {
                event = value ?? "";
            } else if (field === "data") {
                data += value;
            }
        }
        if (event !== "" && event !== "reset" && data !== "") {
            await this.#options.onEvent({ event, data: JSON.parse(data) as StreamedEvent["data"] });
        }
    }
}

/**
 * Converts an event of Drover to Bull's event with its arguments; undefined if Bull has no such event. The stream does not contain the
 * results of jobs.
 */
export function toGlobalEvent({ event, data }: StreamedEvent): { name: `${BullQueueGlobalEvents}`; args: unknown[] } | undefined {
    const id = fromDroverId(data.id);
    switch (event) {
        case "enqueued":
        case "promoted":
        case "retried":
        case "signalled":
        case "released":
            return data.state === "waiting" ? { name: "global:waiting", args: [id] } : undefined;
        case "started":
            return { name: "global:active", args: [id, "waiting"] };
        case "progress":
            return { name: "global:progress", args: [id, data.progress] };
        case "completed":
            return { name: "global:completed", args: [id] };
        case "failed":
            return { name: "global:failed", args: [id, data.error?.message ?? "failed", "active"] };
        case "lapsed":
            return { name: "global:stalled", args: [id] };
        case "erased":
            return { name: "global:removed", args: [id] };
        default:
            return undefined;
    }
}
