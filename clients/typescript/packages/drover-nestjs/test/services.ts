/** Starts a real Redis and a real producer-api for the tests of one file, and real Nest applications on them. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
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

/** No wait of a test is longer, in milliseconds. */
const LIMIT = 60_000;

/**
 * Returns a port that was free a moment ago. The system gives ports from 32768 on to outgoing connections, so only lower ports are still
 * free when a process that was killed starts again.
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

/** Waits until the condition returns something other than undefined and false; asks again and again for at most a minute. */
export async function until<T>(what: string, condition: () => T | Promise<T>): Promise<Exclude<NonNullable<T>, false>> {
    const end = performance.now() + LIMIT;
    for (;;) {
        const value = await condition();
        if (value !== undefined && value !== null && value !== false) {
            return value as Exclude<NonNullable<T>, false>;
        }
        if (performance.now() > end) {
            throw new Error(`this did not happen within ${LIMIT} ms: ${what}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

/** The folder of Drover's repository. */
export function repository(): string {
    let folder = dirname(fileURLToPath(import.meta.url));
    while (!existsSync(join(folder, "Cargo.toml"))) {
        folder = dirname(folder);
    }
    return folder;
}

/** The folder with Drover's binaries: $DROVER_BIN, or the target folder of the repository. */
function binaries(): string {
    return process.env["DROVER_BIN"] ?? join(process.env["CARGO_TARGET_DIR"] ?? join(repository(), "target"), "debug");
}

export class Services {
    readonly #folder = mkdtempSync(join(tmpdir(), "drover-nestjs-"));
    readonly #apps: INestApplicationContext[] = [];
    #redisPort = 0;
    #apiPort = 0;
    #redis: ChildProcess | undefined;
    #api: ChildProcess | undefined;

    /** Starts Redis, and the API unless it is to be away. */
    static async start({ withApi = true } = {}): Promise<Services> {
        const services = new Services();
        services.#redisPort = await freePort();
        services.#apiPort = await freePort();
        services.#redis = services.#spawn("redis-server", [
            ...["--port", String(services.#redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            ...["--dir", services.#folder],
        ]);
        await until("Redis answers", () => {
            try {
                return execFileSync("redis-cli", ["-p", String(services.#redisPort), "ping"], { stdio: "pipe" }).length > 0;
            } catch {
                return false;
            }
        });
        if (withApi) {
            await services.startApi();
        }
        return services;
    }

    get url(): string {
        return `http://127.0.0.1:${this.#apiPort}`;
    }

    async startApi(): Promise<void> {
        this.#api = this.#spawn(join(binaries(), "producer-api"), [], {
            DROVER__API__BIND: `127.0.0.1:${this.#apiPort}`,
            DROVER__REDIS__URL: `redis://127.0.0.1:${this.#redisPort}`,
        });
        await until("the API is ready", () => this.#isReady());
    }

    /** Kills the API as `kill -9` does. */
    async killApi(): Promise<void> {
        await kill(this.#api);
        this.#api = undefined;
    }

    /** Starts a Nest application without HTTP, which `stop` closes. */
    async app(module: Type | object): Promise<INestApplicationContext> {
        const app = await NestFactory.createApplicationContext(module as Type, { logger: false, abortOnError: false });
        this.#apps.push(app);
        return app;
    }

    /** A request to the API, for what the tests look at beside the application. */
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
        return spawn(command, args, { stdio: ["ignore", log, log], env: { ...process.env, ...environment } });
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

/** A promise with its two functions. */
export function deferred<T = void>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
    let resolve!: (value: T) => void;
    let reject!: (error: Error) => void;
    const promise = new Promise<T>((yes, no) => {
        resolve = yes;
        reject = no;
    });
    return { promise, resolve, reject };
}
