/**
 * Starts real services for tests: a Redis and a Drover API on free ports, and a proxy that breaks requests. The file also has functions
 * that wait with a time limit.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import * as http from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const repository = resolve(here, "../../../../..");
const binaries = process.env["DROVER_BIN"] ?? join(process.env["CARGO_TARGET_DIR"] ?? join(repository, "target"), "debug");

/** The time limit (ms) for an event that usually happens soon. The limit allows for a busy machine. */
export const PATIENCE = 30_000;

const children = new Set<ChildProcess>();
process.on("exit", () => {
    for (const child of children) {
        child.kill("SIGKILL");
    }
});

/**
 * Returns a free port. The port is below 32768, because the system gives higher ports to outgoing connections, and a killed process must
 * find its port free when it starts again.
 */
export async function freePort(): Promise<number> {
    for (;;) {
        const port = randomInt(15_000, 32_000);
        const server = createServer();
        const isFree = await new Promise((tried) => {
            server.once("error", () => tried(false));
            server.listen(port, "127.0.0.1", () => server.close(() => tried(true)));
        });
        if (isFree) {
            return port;
        }
    }
}

/** Waits until a function returns a value other than false and undefined. */
export async function until<T>(what: string, condition: () => T | Promise<T>, limit = PATIENCE): Promise<NonNullable<Exclude<T, false>>> {
    const deadline = performance.now() + limit;
    for (;;) {
        const value = await condition();
        if (value !== false && value !== undefined && value !== null) {
            return value as NonNullable<Exclude<T, false>>;
        }
        if (performance.now() > deadline) {
            throw new Error(`after ${limit} ms still not: ${what}`);
        }
        await new Promise((wake) => setTimeout(wake, 10));
    }
}

/** Waits for a promise, for at most `limit` ms. */
export async function within<T>(what: string, promise: Promise<T>, limit = PATIENCE): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`after ${limit} ms still not: ${what}`)), limit);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

export class Service {
    #child: ChildProcess | undefined;
    #output = "";

    constructor(
        readonly command: string,
        readonly args: string[],
        readonly env: Record<string, string> = {},
    ) {}

    start(): void {
        this.#output = "";
        const child = spawn(this.command, this.args, { env: { ...process.env, ...this.env }, stdio: ["ignore", "pipe", "pipe"] });
        children.add(child);
        child.once("exit", () => children.delete(child));
        const keep = (chunk: Buffer): void => {
            this.#output = (this.#output + chunk.toString()).slice(-20_000);
        };
        child.stdout.on("data", keep);
        child.stderr.on("data", keep);
        this.#child = child;
    }

    get output(): string {
        return this.#output;
    }

    /** Returns whether the process runs. */
    get runs(): boolean {
        return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
    }

    /** Returns the exit code of a process that has ended by itself. */
    get exitCode(): number | undefined {
        return this.#child?.exitCode ?? undefined;
    }

    signal(signal: NodeJS.Signals): void {
        this.#child?.kill(signal);
    }

    /** Sends a signal to the process, and waits until the process has ended. */
    async end(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
        const child = this.#child;
        if (child && this.runs) {
            const ended = new Promise((end) => child.once("exit", end));
            child.kill(signal);
            await within(`${this.command} has ended`, ended);
        }
    }
}

const all: Drover[] = [];
const proxies: Proxy[] = [];

export class Drover {
    readonly #folder = mkdtempSync(join(tmpdir(), "drover-client-"));
    readonly redis: Service;
    readonly api: Service;
    readonly redisUrl: string;
    readonly url: string;

    private constructor(redisPort: number, apiPort: number, env: Record<string, string>) {
        if (!existsSync(join(binaries, "producer-api"))) {
            throw new Error(`${binaries}/producer-api is missing: build it with cargo build --workspace, or set DROVER_BIN`);
        }
        const options = ["--port", String(redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", this.#folder];
        this.redis = new Service("redis-server", options);
        this.redisUrl = `redis://127.0.0.1:${redisPort}`;
        this.api = new Service(join(binaries, "producer-api"), [], {
            DROVER__API__BIND: `127.0.0.1:${apiPort}`,
            DROVER__REDIS__URL: this.redisUrl,
            DROVER__LOG__FILTER: "warn",
            ...env,
        });
        this.url = `http://127.0.0.1:${apiPort}`;
    }

    /** Starts a Redis, and an API on a free port or on the given port. `stopAll` stops both processes. */
    static async start(env: Record<string, string> = {}, apiPort?: number): Promise<Drover> {
        const drover = new Drover(await freePort(), apiPort ?? (await freePort()), env);
        all.push(drover);
        drover.redis.start();
        await drover.startApi();
        return drover;
    }

    async startApi(): Promise<void> {
        this.api.start();
        await until("the API is ready", async () => {
            if (!this.api.runs) {
                throw new Error(`the API has ended: ${this.api.output}`);
            }
            return (await get(`${this.url}/readyz`)) === 200;
        });
    }

    async stop(): Promise<void> {
        await this.api.end();
        await this.redis.end();
        rmSync(this.#folder, { recursive: true, force: true });
    }

    /** Stops everything that the tests of this file have started. */
    static async stopAll(): Promise<void> {
        for (const proxy of proxies) {
            proxy.stop();
        }
        await Promise.all(all.map((drover) => drover.stop()));
    }

    /** Sends a plain HTTP request to the API, and not with the client under test. Returns the JSON of the answer. */
    async raw(method: string, path: string, body?: unknown): Promise<any> {
        const answer = await fetch(this.url + path, {
            method,
            headers: { "content-type": "application/json", connection: "close" },
            ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        });
        const text = await answer.text();
        if (!answer.ok) {
            throw new Error(`${method} ${path}: ${text}`);
        }
        return text === "" ? undefined : JSON.parse(text);
    }

    /** Reads all messages of a queue. Returns the messages by their ids. */
    async messages(queue: string): Promise<Map<string, any>> {
        const messages = new Map<string, any>();
        let cursor = "";
        do {
            const page = await this.raw("GET", `/v1/queues/${queue}/messages?limit=1000${cursor}`);
            for (const message of page.messages) {
                messages.set(message.id, message);
            }
            cursor = page.next_cursor ? `&cursor=${encodeURIComponent(page.next_cursor)}` : "";
        } while (cursor !== "");
        return messages;
    }
}

/** Returns the status of the answer to a request; 0 if the request gets no answer. */
function get(url: string): Promise<number> {
    return new Promise((done) => {
        const request = http.get(url, { agent: false, timeout: 5_000 }, (response) => {
            response.resume();
            done(response.statusCode ?? 0);
        });
        request.on("timeout", () => request.destroy());
        request.on("error", () => done(0));
    });
}

export interface ProxiedRequest {
    method: string;
    path: string;
    headers: http.IncomingHttpHeaders;
    body: string;
}

/**
 * The way in which the proxy handles a request. With `lose`, the proxy sends the request to the API, but closes the client's connection
 * instead of passing the answer.
 */
export type Deed = "pass" | "refuse" | "lose" | "hold" | { status: number; body: unknown; headers?: Record<string, string> };

/** A proxy in front of the API, which records requests and breaks some of them. */
export class Proxy {
    readonly requests: ProxiedRequest[] = [];
    decide: (request: ProxiedRequest) => Deed | Promise<Deed> = () => "pass";
    readonly #server: http.Server;
    url = "";

    private constructor(target: string) {
        // Like the API, the proxy can still answer after the client has closed its sending side.
        this.#server = Object.assign(http.createServer(), { httpAllowHalfOpen: true });
        this.#server.on("request", (request, response) => {
            const chunks: Buffer[] = [];
            request.on("data", (chunk: Buffer) => chunks.push(chunk));
            request.on("error", () => {});
            request.on("end", () => {
                const body = Buffer.concat(chunks).toString();
                const { method = "", url: path = "", headers } = request;
                const proxied = { method, path, headers, body };
                this.requests.push(proxied);
                void Promise.resolve(this.decide(proxied)).then((deed) => this.#do(deed, target, proxied, request, response));
            });
        });
    }

    static async start(target: string): Promise<Proxy> {
        const proxy = new Proxy(target);
        proxies.push(proxy);
        await new Promise<void>((listening) => proxy.#server.listen(0, "127.0.0.1", listening));
        proxy.url = `http://127.0.0.1:${(proxy.#server.address() as AddressInfo).port}`;
        return proxy;
    }

    stop(): void {
        this.#server.closeAllConnections();
        this.#server.close();
    }

    #do(deed: Deed, target: string, proxied: ProxiedRequest, request: http.IncomingMessage, response: http.ServerResponse): void {
        if (deed === "refuse") {
            request.socket.destroy();
            return;
        }
        if (deed === "hold") {
            return;
        }
        if (typeof deed === "object") {
            response.writeHead(deed.status, { "content-type": "application/problem+json", ...deed.headers });
            response.end(JSON.stringify(deed.body));
            return;
        }
        const { method, path, headers, body } = proxied;
        const onward = http.request(target + path, { method, headers: { ...headers, host: new URL(target).host }, agent: false }, (answer) => {
            const chunks: Buffer[] = [];
            answer.on("data", (chunk: Buffer) => chunks.push(chunk));
            answer.on("error", () => request.socket.destroy());
            answer.on("end", () => {
                if (deed === "lose") {
                    request.socket.destroy();
                } else {
                    response.writeHead(answer.statusCode ?? 502, answer.headers);
                    response.end(Buffer.concat(chunks));
                }
            });
        });
        onward.on("error", () => request.socket.destroy());
        response.once("close", () => onward.destroy());
        onward.end(body);
    }
}

/** Records the events that a worker emits. */
export function record(worker: { on(event: any, listener: (...args: any[]) => void): unknown }): [event: string, id: string, detail: unknown][] {
    const events: [string, string, unknown][] = [];
    for (const event of ["active", "completed", "failed", "released", "lost", "progress"]) {
        worker.on(event, (job: { id: string }, detail: unknown) => events.push([event, job.id, detail]));
    }
    worker.on("error", (error: Error) => events.push(["error", "", error]));
    return events;
}
