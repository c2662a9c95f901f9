/** Starts a real Redis and a real producer-api for the tests of one file, and real Nest applications on them. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, type SpawnOptions } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import "reflect-metadata";
import type { INestApplicationContext, Type } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { getQueueToken, type Queue } from "drover-nestjs";

/** The time limit (ms) for all waits of the tests. */
const WAIT_LIMIT = 60_000;

/**
 * Returns a free port. The port is below 32768, because the system gives higher ports to outgoing connections, and a killed process must
 * find its port free when it starts again.
 */
export async function freePort(): Promise<number> {
    for (;;) {
        const port = randomInt(15_000, 32_000);
        const server = createServer().listen(port, "127.0.0.1");
        const isFree = await once(server, "listening").then(
            () => true,
            () => false,
        );
        if (isFree) {
            server.close();
            await once(server, "close");
            return port;
        }
    }
}

/** Calls a function again and again, for at most a minute, until it returns a value other than undefined and false. */
export async function until<T>(what: string, condition: () => T | Promise<T>): Promise<Exclude<NonNullable<T>, false>> {
    const end = performance.now() + WAIT_LIMIT;
    for (;;) {
        const value = await condition();
        if (value !== undefined && value !== null && value !== false) {
            return value as Exclude<NonNullable<T>, false>;
        }
        if (performance.now() > end) {
            throw new Error(`this did not happen within ${WAIT_LIMIT} ms: ${what}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

/** The path of the folder of Drover's repository. */
export function repository(): string {
    let folder = dirname(fileURLToPath(import.meta.url));
    while (!existsSync(join(folder, "Cargo.toml"))) {
        folder = dirname(folder);
    }
    return folder;
}

/** Returns the path of the binary producer-api: in the folder $DROVER_BIN, or in the target folder of the repository. */
function producerApi(): string {
    const folder = process.env["DROVER_BIN"] ?? join(process.env["CARGO_TARGET_DIR"] ?? join(repository(), "target"), "debug");
    const path = join(folder, "producer-api");
    if (!existsSync(path)) {
        throw new Error(`there is no ${path}: run cargo build --workspace, or name the folder of the binaries with DROVER_BIN`);
    }
    return path;
}

/** Creates an API key with these scopes. Returns the key, and its entry for the variable `DROVER__AUTH__KEYS`. */
export function makeKey(scopes: string): { key: string; entry: string } {
    const lines = execFileSync(producerApi(), ["key", "--id", "test", "--scopes", scopes, "--queues", "*"], { stdio: "pipe" });
    const [key = "", entry = ""] = lines.toString().split("\n");
    return { key, entry: entry.replace(/,$/, "") };
}

/** The running processes, which are killed when the process of the test ends. */
const children = new Set<ChildProcess>();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => process.exit(1));
}

/** Starts a process that is killed when the process of the test ends. */
export function start(command: string, args: string[], options: SpawnOptions): ChildProcess {
    const child = spawn(command, args, options);
    children.add(child);
    child.once("exit", () => children.delete(child));
    return child;
}

export class Services {
    readonly #folder = mkdtempSync(join(tmpdir(), "drover-nestjs-"));
    readonly #apps: INestApplicationContext[] = [];
    #redisPort = 0;
    #apiPort = 0;
    #redis: ChildProcess | undefined;
    #api: ChildProcess | undefined;

    /** Starts Redis, and also the API unless the test asks for a Redis without an API. */
    static async start({ withApi = true } = {}): Promise<Services> {
        const services = new Services();
        try {
            await services.#startRedis();
            services.#apiPort = await freePort();
            if (withApi) {
                await services.startApi();
            }
            return services;
        } catch (error) {
            await services.stop();
            throw error;
        }
    }

    get url(): string {
        return `http://127.0.0.1:${this.#apiPort}`;
    }

    async startApi(environment: Record<string, string> = {}): Promise<void> {
        this.#api = this.#spawn(producerApi(), [], {
            ...environment,
            DROVER__API__BIND: `127.0.0.1:${this.#apiPort}`,
            DROVER__REDIS__URL: `redis://127.0.0.1:${this.#redisPort}`,
        });
        await until("the API is ready", () => this.#isReady());
    }

    /** Kills the API with SIGKILL. */
    async killApi(): Promise<void> {
        await kill(this.#api);
        this.#api = undefined;
    }

    /** Starts a Nest application that serves no HTTP. The method `stop` closes the application. */
    async app(module: Type | object): Promise<INestApplicationContext> {
        const app = await NestFactory.createApplicationContext(module as Type, { logger: false, abortOnError: false });
        this.#apps.push(app);
        return app;
    }

    /** Sends a plain HTTP request to the API, which bypasses the application under test. */
    async get(path: string): Promise<any> {
        const response = await fetch(`${this.url}/v1/queues/${path}`);
        return response.json();
    }

    async post(path: string, body: unknown): Promise<any> {
        const response = await fetch(`${this.url}/v1/queues/${path}`, {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify(body),
        });
        return response.json();
    }

    async patch(path: string, body: unknown): Promise<void> {
        const response = await fetch(`${this.url}/v1/queues/${path}`, {
            method: "PATCH",
            headers: { "content-type": "application/merge-patch+json" },
            body: JSON.stringify(body),
        });
        assert.ok(response.ok, await response.text());
    }

    async stop(): Promise<void> {
        await Promise.all(this.#apps.map((app) => app.close()));
        await kill(this.#api);
        await kill(this.#redis);
        rmSync(this.#folder, { recursive: true, force: true });
    }

    async #startRedis(): Promise<void> {
        this.#redisPort = await freePort();
        this.#redis = this.#spawn("redis-server", [
            ...["--port", String(this.#redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            ...["--dir", this.#folder],
        ]);
        await until("Redis answers", () => {
            try {
                return execFileSync("redis-cli", ["-p", String(this.#redisPort), "ping"], { stdio: "pipe" }).length > 0;
            } catch {
                return false;
            }
        });
    }

    async #isReady(): Promise<boolean> {
        if (this.#api?.exitCode !== null) {
            throw new Error(`the API ended: ${readFileSync(join(this.#folder, "log"), "utf8").slice(-2_000)}`);
        }
        return fetch(`${this.url}/readyz`).then(
            (response) => response.ok,
            () => false,
        );
    }

    #spawn(command: string, args: string[], environment: Record<string, string> = {}): ChildProcess {
        const log = openSync(join(this.#folder, "log"), "a");
        return start(command, args, { stdio: ["ignore", log, log], env: { ...process.env, ...environment } });
    }
}

async function kill(child: ChildProcess | undefined): Promise<void> {
    if (child && child.exitCode === null && child.signalCode === null) {
        const exit = once(child, "exit");
        child.kill("SIGKILL");
        await exit;
    }
}

export function queueOf<T = any>(app: INestApplicationContext, name: string): Queue<T> {
    return app.get<Queue<T>>(getQueueToken(name), { strict: false });
}

/** Creates a promise together with the functions that resolve and reject the promise. */
export function deferred<T = void>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
    let resolve!: (value: T) => void;
    let reject!: (error: Error) => void;
    const promise = new Promise<T>((yes, no) => {
        resolve = yes;
        reject = no;
    });
    return { promise, resolve, reject };
}
