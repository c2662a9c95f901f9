/** Tests of the options of an application, of its start while the API is not available, and of its stop. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";

import { Injectable, Module, type DynamicModule } from "@nestjs/common";
import {
    DroverModule,
    getQueueToken,
    Job,
    OnGlobalQueueCompleted,
    Process,
    Processor,
    Queue,
    type BullModuleOptions,
    type BullOptionsFactory,
    type BullRootModuleOptions,
    type SharedBullConfigurationFactory,
} from "drover-nestjs";

import { deferred, makeKey, queueOf, Services, until } from "./services.js";

let services: Services;
before(async () => {
    services = await Services.start();
});
after(() => services.stop());

let count = 0;
function moduleOf(imports: DynamicModule[], providers: any[] = []): object {
    class TestModule {}
    Module({})(TestModule);
    return { module: TestModule, imports, providers };
}

@Injectable()
class Address {
    readonly url = services.url;
}

@Module({ providers: [Address], exports: [Address] })
class AddressModule {}

@Injectable()
class Shared implements SharedBullConfigurationFactory {
    constructor(private readonly address: Address) {}
    createSharedConfiguration(): BullRootModuleOptions {
        return { url: this.address.url, defaultJobOptions: { attempts: 4 } };
    }
}

@Injectable()
class Own implements BullOptionsFactory {
    async createBullOptions(): Promise<BullModuleOptions> {
        return { defaultJobOptions: { attempts: 5 } };
    }
}

/** Adds a job, and returns the maximum number of attempts that Drover stored, which tells which options applied to the job. */
async function attemptsOf(root: DynamicModule[], queue: (name: string) => DynamicModule): Promise<number> {
    const name = `options-${++count}`;
    const app = await services.app(moduleOf([...root, queue(name)]));
    const { id } = await queueOf(app, name).add({});
    return (await services.get(`${name}/messages/${id}`)).max_attempts;
}

test("forRootAsync takes a factory, a class, or a provider", async () => {
    const register = (name: string): DynamicModule => DroverModule.registerQueue({ name });
    const useFactory = async ({ url }: Address): Promise<BullRootModuleOptions> => ({ url, defaultJobOptions: { attempts: 3 } });
    const imports = [AddressModule];
    assert.equal(await attemptsOf([DroverModule.forRootAsync({ imports, inject: [Address], useFactory })], register), 3);
    assert.equal(await attemptsOf([DroverModule.forRootAsync({ imports, useClass: Shared })], register), 4);
    @Module({ imports, providers: [Shared], exports: [Shared] })
    class SharedModule {}
    assert.equal(await attemptsOf([DroverModule.forRootAsync({ imports: [SharedModule], useExisting: Shared })], register), 4);
});

test("registerQueueAsync takes a factory or a class, over the options of forRoot", async () => {
    const root = [DroverModule.forRoot({ url: services.url })];
    const useFactory = (address: Address): BullModuleOptions => ({ url: address.url, defaultJobOptions: { attempts: 6 } });
    const imports = [AddressModule];
    const byFactory = (name: string): DynamicModule => DroverModule.registerQueueAsync({ name, imports, inject: [Address], useFactory });
    assert.equal(await attemptsOf(root, byFactory), 6);
    assert.equal(await attemptsOf(root, (name) => DroverModule.registerQueueAsync({ name, useClass: Own })), 5);
    assert.equal(await attemptsOf(root, (name) => DroverModule.registerQueueAsync({ name })), 1);
});

test("a queue names its forRoot by configKey", async () => {
    const root = [
        DroverModule.forRoot({ url: "http://127.0.0.1:1" }),
        DroverModule.forRoot("second", { url: services.url, defaultJobOptions: { attempts: 2 } }),
    ];
    assert.equal(await attemptsOf(root, (name) => DroverModule.registerQueue({ name, configKey: "second" })), 2);
    const missing = moduleOf([DroverModule.registerQueue({ name: "missing", configKey: "third" })]);
    await assert.rejects(services.app(missing), /the queue "missing" names the configKey "third": call DroverModule\.forRoot\("third"/);
});

test("a test may replace a queue by its token", async () => {
    assert.equal(getQueueToken("mails"), "DroverQueue_mails");
    @Processor("mails")
    class Mails {
        @Process({ name: "welcome", concurrency: 2 })
        welcome(job: Job<string>): string {
            return `welcome ${job.data}`;
        }
    }
    const calls: any[][] = [];
    const mock = { provide: getQueueToken("mails"), useValue: { process: (...args: unknown[]) => calls.push(args) } };
    const imports = [DroverModule.forRoot({ url: services.url }), DroverModule.registerQueue({})];
    const app = await services.app(moduleOf(imports, [mock, Mails]));
    assert.deepEqual(calls.map(([name, concurrency, handler]) => [name, concurrency, handler({ data: "ada" })]), [["welcome", 2, "welcome ada"]]);
    assert.ok(app.get<Queue>(getQueueToken(), { strict: false }) instanceof Queue);
    assert.equal(queueOf(app, "default").name, "default");
});

test("a wrong option ends the start with its text", async () => {
    const root = DroverModule.forRoot({ url: services.url, redis: {} } as never);
    await assert.rejects(services.app(moduleOf([root, DroverModule.registerQueue({ name: "wrong" })])), /redis is not supported by Drover: name Drover's API with url/);
});

test("an application starts while the API is away, and works when the API comes", async () => {
    const later = await Services.start({ withApi: false });
    try {
        @Processor("early")
        class Early {
            @Process()
            async work(job: Job<number>): Promise<number> {
                return job.data * 2;
            }
        }
        const root = DroverModule.forRoot({ url: later.url, limiter: { max: 1_000, duration: 100 } });
        const app = await later.app(moduleOf([root, DroverModule.registerQueue({ name: "early" })], [Early]));
        const queue = queueOf<number>(app, "early");
        const errors: Error[] = [];
        queue.on("error", (error) => errors.push(error));
        const adding = queue.add(21);
        await later.startApi();
        assert.equal(await (await adding).finished(), 42);
        assert.deepEqual((await later.get("early")).settings.rate_limit, { max: 1_000, duration: 100 });
        // The API is killed and started again, and then the worker continues.
        await later.killApi();
        const during = queue.add(4);
        await later.startApi();
        assert.equal(await (await during).finished(), 8);
    } finally {
        await later.stop();
    }
});

test("a program that only processes jobs goes on while its settings cannot be sent", async () => {
    const program = `
        import { Queue } from "drover-nestjs";
        const queue = new Queue("worker-only", { url: "http://127.0.0.1:1", timeout: 50, limiter: { max: 1, duration: 1000 } });
        queue.on("error", () => console.log("error"));
        queue.process(async () => {});`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: ["ignore", "pipe", "inherit"] });
    try {
        let output = "";
        child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
        await until("the settings are sent a second time", () => {
            assert.equal(child.exitCode, null);
            return output.split("error").length > 2;
        });
    } finally {
        child.kill("SIGKILL");
    }
});

test("a key that may not change settings leaves the limiter out, with an error, and jobs are processed", async () => {
    const guarded = await Services.start({ withApi: false });
    try {
        const { key, entry } = makeKey("enqueue,read,consume");
        await guarded.startApi({ DROVER__AUTH__KEYS: `[${entry}]` });
        const errors: string[] = [];
        const queue = new Queue<number>("guarded", { url: guarded.url, key, limiter: { max: 5, duration: 1_000 } });
        queue.on("error", (error) => errors.push(error.message));
        void queue.process(async ({ data }: Job<number>) => data * 2);
        assert.equal(await (await queue.add(21)).finished(), 42);
        assert.equal((await queue.drover.settings()).rate_limit, null);
        assert.equal(errors.length, 1);
        assert.match(errors[0] ?? "", /forbidden \(403\)/);
        assert.ok(!errors[0]?.includes(key));
        await queue.close();
    } finally {
        await guarded.stop();
    }
});

test("add fails with an error that names the address when the API stays away", async () => {
    const queue = new Queue("away", { url: "http://127.0.0.1:1", timeout: 300 });
    await assert.rejects(queue.add({}), /127\.0\.0\.1:1.*ECONNREFUSED/);
    await queue.close();
});

test("closing an application finishes its handlers and leases nothing more", async () => {
    const started = deferred();
    const end = deferred();
    const seen: number[] = [];
    let signal: AbortSignal | undefined;
    @Processor("closing")
    class Closing {
        @Process()
        async work(job: Job<number>): Promise<string> {
            signal = job.abortSignal;
            started.resolve();
            await end.promise;
            seen.push(job.data);
            return "finished";
        }
    }
    const root = DroverModule.forRoot({ url: services.url });
    const app = await services.app(moduleOf([root, DroverModule.registerQueue({ name: "closing" })], [Closing]));
    const queue = queueOf<number>(app, "closing");
    const [first, second] = [await queue.add(1), await queue.add(2)];
    await started.promise;
    let isClosed = false;
    const closing = app.close().then(() => (isClosed = true));
    // An application that is closing can still add jobs.
    const third = await queue.add(3);
    assert.equal(isClosed, false);
    assert.equal(signal?.aborted, false);
    end.resolve();
    await closing;
    const states = [first, second, third].map(async ({ id }) => (await services.get(`closing/messages/${id}`)).state);
    assert.deepEqual(await Promise.all(states), ["completed", "waiting", "waiting"]);
    assert.deepEqual(seen, [1]);
});

test("a handler that does not end is released after closeTimeout", async () => {
    const started = deferred();
    @Processor("endless")
    class Endless {
        @Process()
        async work(): Promise<void> {
            started.resolve();
            await new Promise(() => {});
        }
    }
    const root = DroverModule.forRoot({ url: services.url, closeTimeout: 100 });
    const app = await services.app(moduleOf([root, DroverModule.registerQueue({ name: "endless" })], [Endless]));
    const { id } = await queueOf(app, "endless").add({});
    await started.promise;
    await app.close();
    const message = await services.get(`endless/messages/${id}`);
    assert.deepEqual([message.state, message.attempts_made], ["waiting", 0]);
});

test("OnGlobalQueueCompleted gets the jobs of other processes", async () => {
    const results: unknown[] = [];
    @Processor("global")
    class Global {
        @OnGlobalQueueCompleted()
        completed(jobId: string, result: string): void {
            results.push([jobId, JSON.parse(result)]);
        }
    }
    const root = DroverModule.forRoot({ url: services.url });
    await services.app(moduleOf([root, DroverModule.registerQueue({ name: "global" })], [Global]));
    const other = new Queue("global", { url: services.url });
    try {
        void other.process("probe", async ({ data }: Job) => data);
        await until("an event", async () => {
            await (await other.add("probe", { n: 1 })).finished();
            return results.length > 0;
        });
        assert.deepEqual((results[0] as unknown[])[1], { n: 1 });
    } finally {
        await other.close();
    }
});
