/** Sends requests to the API over kept connections and with time limits, and repeats requests while the API is not available. */
import * as http from "node:http";
import * as https from "node:https";

import { Backoff, Notifier, startTimer } from "./backoff.js";
import { ConnectionError, DroverError, type Problem } from "./errors.js";

export interface DroverOptions {
    /** The address of the API; default: the environment variable `DROVER_URL`, or `http://127.0.0.1:8080`. */
    url?: string | undefined;
    /** The API key; default: the environment variable `DROVER_KEY`, or none. */
    key?: string | undefined;
    /** The time (ms) for which a request is repeated while the API is not available; default 30,000. */
    timeout?: number | undefined;
}

export interface Request {
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
    /** The path of the request after the API's address, with the query. */
    path: string;
    /** The body of the request, as JSON text. */
    body?: string | undefined;
    contentType?: string | undefined;
    idempotencyKey?: string | undefined;
    /** The maximum time (ms) for which the request asks the API to wait before the API answers. */
    wait?: number | undefined;
    /** The time limit (ms) for the answer, in addition to `wait`. */
    limit?: number | undefined;
    /** The maximum time (ms) for which the request waits for a free connection; default: no limit. */
    connectionLimit?: number | undefined;
}

export interface CallOptions {
    /**
     * Returns whether an error of a repeated request means that an earlier request, whose answer was lost, has succeeded. `Http.call` then
     * returns undefined.
     */
    isDone?: ((error: DroverError) => boolean) | undefined;
    /** Whether the request is sent only once, because the caller of `Http.call` repeats it. */
    once?: boolean | undefined;
}

/** The time limit (ms) for the answer to a request without `wait`. */
export const ANSWER_LIMIT = 15_000;
/** The time (ms) within which the API must close a connection after the client has closed its sending side. */
const WITHDRAWAL_LIMIT = 2_000;
/** The maximum number of simultaneous requests, apart from requests with `wait`. */
const MAX_CONNECTIONS = 50;
/** The time (ms) after which the client closes an idle connection, which is shorter than the API's own limit (`api.idle_timeout`). */
const IDLE_TIMEOUT = 30_000;

/** A request that the client has sent. */
export interface Sent {
    /** The parsed answer. A failure is a `DroverError` or `ConnectionError`. */
    readonly answer: Promise<unknown>;
    /**
     * Ends the request without losing an answer that is on its way. The client closes the sending side of the connection. If the API has
     * not answered yet, the API drops the request, releases the messages that were leased for it, and closes the connection.
     */
    withdraw(): void;
    /** Closes the connection of the request, and loses an answer that is on its way. */
    destroy(error: Error): void;
}

export class Http {
    /** The address of the API, without a slash at the end. */
    readonly url: string;
    /** The time (ms) for which a request is repeated while the API does not answer. */
    readonly timeout: number;
    readonly #base: URL;
    readonly #authorization: string | undefined;
    readonly #agent: http.Agent;
    readonly #waitAgent: http.Agent;
    #isClosed = false;
    /** The notifier that is called when the client is closed, and when a call has ended. */
    readonly #change = new Notifier();
    #openCalls = 0;
    /** The requests with `wait`, which `close` ends. All other requests have a short time limit. */
    readonly #waiting = new Set<Sent>();

    constructor(options: DroverOptions = {}) {
        const url = options.url ?? process.env["DROVER_URL"] ?? "http://127.0.0.1:8080";
        this.#base = parseUrl(url);
        this.url = this.#base.origin + this.#base.pathname.replace(/\/+$/, "");
        this.timeout = checkTime("timeout", options.timeout ?? 30_000);
        const key = options.key ?? (process.env["DROVER_KEY"] || undefined);
        if (key !== undefined && !/^[\x21-\x7e]+$/.test(key)) {
            throw new TypeError("key: an API key consists of visible ASCII characters: check the option `key`, or DROVER_KEY");
        }
        this.#authorization = key === undefined ? undefined : `Bearer ${key}`;
        const { Agent } = this.#base.protocol === "https:" ? https : http;
        const common = { keepAlive: true, noDelay: true, timeout: IDLE_TIMEOUT };
        this.#agent = new Agent({ ...common, maxSockets: MAX_CONNECTIONS });
        this.#waitAgent = new Agent({ ...common, maxFreeSockets: 10 });
    }

    /** Sends a request without repeating it. */
    send(request: Request): Sent {
        const limit = (request.limit ?? ANSWER_LIMIT) + (request.wait ?? 0);
        const place = `${request.method} ${this.url}${request.path.replace(/\?.*/, "")}`;
        const { body } = request;
        const headers: http.OutgoingHttpHeaders = {};
        if (this.#authorization !== undefined) {
            headers["authorization"] = this.#authorization;
        }
        if (request.idempotencyKey !== undefined) {
            headers["idempotency-key"] = request.idempotencyKey;
        }
        if (body !== undefined) {
            headers["content-type"] = request.contentType ?? "application/json";
            headers["content-length"] = Buffer.byteLength(body);
        }
        const { request: start } = this.#base.protocol === "https:" ? https : http;
        const outgoing = start(this.url + request.path, {
            method: request.method,
            headers,
            agent: request.wait === undefined ? this.#agent : this.#waitAgent,
        });
        const give = (ms: number, message: string): NodeJS.Timeout =>
            startTimer(ms, () => outgoing.destroy(new ConnectionError(message, "TIMEOUT")));
        let timer = give(request.connectionLimit ?? Infinity, "no connection was free in time");
        const answer = new Promise<unknown>((resolve, reject) => {
            const fail = (error: unknown): void => {
                clearTimeout(timer);
                reject(toConnectionError(place, error));
            };
            // The time limit of the answer begins when the request has a connection: the wait for a free connection has a limit of its own.
            outgoing.once("socket", () => {
                clearTimeout(timer);
                timer = give(limit, `no answer within ${Math.ceil(limit)} ms`);
            });
            outgoing.on("error", fail);
            outgoing.once("response", (response) => {
                const chunks: Buffer[] = [];
                response.on("data", (chunk: Buffer) => chunks.push(chunk));
                response.on("error", fail);
                response.once("close", () => {
                    if (!response.complete) {
                        fail(new ConnectionError("the connection was closed within the answer", "ECONNRESET"));
                    }
                });
                response.once("end", () => {
                    clearTimeout(timer);
                    try {
                        resolve(readAnswer(place, response, Buffer.concat(chunks).toString("utf8")));
                    } catch (error) {
                        reject(error as Error);
                    }
                });
            });
        });
        outgoing.end(body);
        return {
            answer,
            withdraw: () => {
                const { socket } = outgoing;
                if (!socket || socket.connecting) {
                    outgoing.destroy(new ConnectionError("the request was withdrawn", "ABORTED"));
                    return;
                }
                socket.end();
                const limit = startTimer(WITHDRAWAL_LIMIT, () => outgoing.destroy());
                const end = (): void => clearTimeout(limit);
                answer.then(end, end);
            },
            destroy: (error) => outgoing.destroy(error),
        };
    }

    /**
     * Sends a request, and repeats the request while the API is not available. Only requests that are safe to repeat may be passed to
     * `call`.
     */
    async call(request: Request, options: CallOptions = {}): Promise<unknown> {
        this.#openCalls += 1;
        try {
            return await this.#repeat(request, options);
        } finally {
            this.#openCalls -= 1;
            this.#change.notify();
        }
    }

    async #repeat(request: Request, { isDone, once = false }: CallOptions): Promise<unknown> {
        const deadline = performance.now() + this.timeout;
        const backoff = new Backoff();
        let mayBeDone = false;
        for (;;) {
            if (this.#isClosed) {
                throw new ConnectionError("the client is closed: create another Queue or Worker", "CLOSED");
            }
            const left = Math.max(1_000, deadline - performance.now());
            const sent = this.send({ ...request, limit: request.limit ?? Math.min(ANSWER_LIMIT, left), connectionLimit: left });
            try {
                if (request.wait !== undefined) {
                    this.#waiting.add(sent);
                }
                return await sent.answer;
            } catch (error) {
                if (mayBeDone && error instanceof DroverError && isDone?.(error)) {
                    return undefined;
                }
                if (once || !isTemporary(error)) {
                    throw error;
                }
                mayBeDone ||= error instanceof ConnectionError || !(error as RefusedError).hasNoEffect;
                const pause = Math.max(backoff.pause(), retryAfterOf(error));
                if (performance.now() + pause > deadline) {
                    throw error;
                }
                await this.pause(pause);
            } finally {
                this.#waiting.delete(sent);
            }
        }
    }

    /** Waits `ms` milliseconds. The wait ends early when the client is closed. */
    async pause(ms: number): Promise<void> {
        const end = performance.now() + ms;
        for (let left = ms; left > 0 && !this.#isClosed; left = end - performance.now()) {
            await this.#change.wait(left);
        }
    }

    get isClosed(): boolean {
        return this.#isClosed;
    }

    /** Ends the requests with `wait`, lets all other requests end, and closes all connections. */
    async close(): Promise<void> {
        this.#isClosed = true;
        this.#change.notify();
        for (const sent of this.#waiting) {
            sent.destroy(new ConnectionError("the client was closed", "CLOSED"));
        }
        while (this.#openCalls > 0) {
            await this.#change.wait(Infinity);
        }
        this.destroy();
    }

    /** Closes all connections without waiting for open requests. */
    destroy(): void {
        this.#isClosed = true;
        this.#agent.destroy();
        this.#waitAgent.destroy();
    }
}

/** A `DroverError` that also has `Retry-After`, and whether the refused request has certainly changed nothing. */
class RefusedError extends DroverError {
    readonly #retryAfter: number;

    constructor(problem: Problem, place: string, retryAfter: number) {
        super(problem, place);
        this.#retryAfter = retryAfter;
    }

    get retryAfterMs(): number {
        return this.#retryAfter;
    }

    get hasNoEffect(): boolean {
        return this.status === 429 || this.code === "overloaded";
    }
}

/** Returns the pause (ms) that an error answer demands by `Retry-After`, otherwise 0. */
export function retryAfterOf(error: unknown): number {
    return error instanceof RefusedError ? error.retryAfterMs : 0;
}

/** Returns whether the request that failed with this error may succeed later without a change. */
export function isTemporary(error: unknown): boolean {
    if (error instanceof DroverError) {
        const isRate = error.code === "rate_limited" || error.code === "too_many_waits";
        return isRate || error.status === 408 || (error.status >= 502 && error.status <= 504);
    }
    return error instanceof ConnectionError;
}

/** Checks the value of an option that is a time in milliseconds. */
export function checkTime(option: string, value: number): number {
    if (typeof value !== "number" || Number.isNaN(value) || value < 0) {
        throw new TypeError(`${option}: ${String(value)} is not a time: give milliseconds, 0 or more`);
    }
    return value;
}

function parseUrl(text: string): URL {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    if (!url || !/^https?:$/.test(url.protocol)) {
        throw new TypeError("url: not an HTTP address: give one like http://127.0.0.1:8080");
    }
    if (url.username || url.password || url.search || url.hash) {
        throw new TypeError("url: the address must have no user, password, query or fragment: give the API key as `key`");
    }
    return url;
}

function readAnswer(place: string, response: http.IncomingMessage, text: string): unknown {
    const status = response.statusCode ?? 0;
    let json: unknown;
    try {
        json = text === "" ? undefined : JSON.parse(text);
    } catch {
        json = text;
    }
    if (status >= 200 && status < 300) {
        if (typeof json === "string") {
            const detail = "the answer is not JSON: check that `url` is the address of Drover's API";
            throw new DroverError({ status, code: "invalid_answer", detail }, place);
        }
        return json;
    }
    const seconds = Number(response.headers["retry-after"]);
    throw new RefusedError(toProblem(status, json), place, Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : 0);
}

/** Reads an error answer. An error answer of a proxy in front of the API has no code of Drover. */
function toProblem(status: number, json: unknown): Problem {
    if (typeof json === "object" && json !== null && "code" in json && typeof json.code === "string") {
        const problem = json as Partial<Problem>;
        return { ...problem, status, code: json.code, detail: problem.detail ?? "" };
    }
    const start = typeof json === "string" ? json.trim().slice(0, 200) : "";
    return { status, code: `http_${status}`, detail: start || "the answer is not from Drover's API: check `url`, or the proxy" };
}

function toConnectionError(place: string, error: unknown): Error {
    const { code, message, errors } = error as Error & { code?: string; errors?: Error[] };
    // If a host name has several addresses, Node's error has an empty message and a list of one error for each address.
    const text = message || errors?.[0]?.message || "the connection failed";
    return new ConnectionError(`${place}: ${text}`, code ?? "ECONNRESET", { cause: error });
}
