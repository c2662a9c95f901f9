/** Tests of decorators, handlers by job name, concurrency, and methods of jobs inside their handlers, in real Nest applications. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Inject, Injectable, Module, Scope } from "@nestjs/common";
import {
    DroverModule,
    InjectQueue,
    JOB_REF,
    OnQueueActive,
    OnQueueCompleted,
    OnQueueDrained,
    OnQueueError,
    OnQueueEvent,
    OnQueueFailed,
    OnQueueProgress,
    OnQueueRemoved,
    OnQueueWaiting,
    Process,
    Processor,
    BullQueueEvents,
    type DoneCallback,
    Job,
    Queue,
    ReleaseError,
    UnrecoverableError,
} from "drover-nestjs";

import { deferred, queueOf, Services, until } from "./services.js";

let services: Services;
before(async () => {
    services = await Services.start();
});
after(() => services.stop());

/** Returns a Nest module with one queue and these providers. */
function moduleWith(name: string, providers: Array<new (...args: any[]) => object>, options: object = {}): object {
    class TestModule {}
    Module({})(TestModule);
    return {
        module: TestModule,
        imports: [DroverModule.forRoot({ url: services.url }), DroverModule.registerQueue({ name, ...options })],
        providers,
    };
}

test("jobs go to the handler of their name, and jobs of other names to the handler for *", async () => {
    const seen: string[] = [];
    @Processor("names")
    class Names {
        @Process("welcome")
        welcome(job: Job): void {
            seen.push(`welcome ${job.name}`);
        }
        @Process({ name: "bye" })
        bye(job: Job): void {
            seen.push(`bye ${job.name}`);
        }
        @Process("*")
        any(job: Job): void {
            seen.push(`any ${job.name}`);
        }
        @Process()
        unnamed(job: Job): void {
            seen.push(`unnamed ${job.name}`);
        }
    }
    const app = await services.app(moduleWith("names", [Names]));
    const queue = queueOf(app, "names");
    const jobs = [await queue.add("welcome", {}), await queue.add("bye", {}), await queue.add("other", {}), await queue.add({ a: 1 })];
    await Promise.all(jobs.map((job) => job.finished()));
    // A message that was posted without a name goes to the handler that has no name.
    const { id } = await services.post("names/messages", { data: 1 });
    await services.get(`names/messages/${id}?wait=20s`);
    assert.deepEqual(seen.sort(), ["any other", "bye bye", "unnamed __default__", "unnamed __default__", "welcome welcome"]);
});

test("a job without a handler fails with a text that names the decorator", async () => {
    const failed = deferred<[Job, Error]>();
    @Processor("missing")
    class Missing {
        @Process("known")
        known(): void {}
        @OnQueueFailed()
        failed(job: Job, error: Error): void {
            failed.resolve([job, error]);
        }
    }
    const app = await services.app(moduleWith("missing", [Missing]));
    const job = await queueOf(app, "missing").add("unknown", {});
    await assert.rejects(job.finished(), /Missing process handler for job type unknown.*@Process\("unknown"\)/);
    const [seen, error] = await failed.promise;
    assert.equal(seen.id, job.id);
    assert.match(error.message, /^Missing process handler/);
    assert.equal((await services.get(`missing/messages/${job.id}`)).error.code, "no_handler");
});

test("concurrencies of named handlers add up", async () => {
    let running = 0;
    let most = 0;
    const all = deferred();
    async function work(): Promise<void> {
        running += 1;
        most = Math.max(most, running);
        if (running === 5) {
            all.resolve();
        }
        await all.promise;
        running -= 1;
    }
    @Processor("sum")
    class Sum {
        @Process({ name: "a", concurrency: 2 })
        a(): Promise<void> {
            return work();
        }
        @Process({ name: "b", concurrency: 3 })
        b(): Promise<void> {
            return work();
        }
    }
    const app = await services.app(moduleWith("sum", [Sum]));
    const jobs = await queueOf(app, "sum").addBulk(Array.from({ length: 20 }, (_, n) => ({ name: n % 2 ? "a" : "b", data: n })));
    await Promise.all(jobs.map((job) => job.finished()));
    assert.equal(most, 5);
});

test("without a concurrency, one job runs at a time", async () => {
    let running = 0;
    let most = 0;
    @Processor("one")
    class One {
        @Process()
        async work(): Promise<void> {
            running += 1;
            most = Math.max(most, running);
            await new Promise((resolve) => setTimeout(resolve, 5));
            running -= 1;
        }
    }
    const app = await services.app(moduleWith("one", [One]));
    const jobs = await queueOf(app, "one").addBulk(Array.from({ length: 10 }, (_, n) => ({ data: n })));
    await Promise.all(jobs.map((job) => job.finished()));
    assert.equal(most, 1);
});

test("moveToCompleted inside a handler completes the job at once, and the later result changes nothing", async () => {
    const events: string[] = [];
    const later = deferred();
    const ended = deferred();
    @Processor("moved")
    class Moved {
        @Process()
        async work(job: Job): Promise<string> {
            const next = await job.moveToCompleted("processed ✅", true);
            events.push(`next ${String(next)}`);
            await later.promise;
            ended.resolve();
            return "too late";
        }
        @OnQueueCompleted()
        completed(job: Job, result: unknown): void {
            events.push(`completed ${String(result)} ${String(job.returnvalue)}`);
        }
        @OnQueueError()
        error(error: Error): void {
            events.push(`error ${error.message}`);
        }
    }
    const app = await services.app(moduleWith("moved", [Moved]));
    const queue = queueOf(app, "moved");
    const job = await queue.add({});
    assert.equal(await job.finished(), "processed ✅");
    later.resolve();
    await ended.promise;
    await queue.whenCurrentJobsFinished();
    // The second job shows that the worker continues, and that the first job causes no more events.
    assert.equal(await (await queue.add({})).finished(), "processed ✅");
    await until("the second job's events", () => events.length >= 4);
    assert.deepEqual([...new Set(events)].sort(), ["completed processed ✅ processed ✅", "next null"]);
    assert.equal((await services.get(`moved/messages/${job.id}`)).result, "processed ✅");
    assert.equal((await services.get("moved")).totals.completed, 2);
});

test("moveToFailed inside a handler fails the attempt at once", async () => {
    let runs = 0;
    @Processor("failing")
    class Failing {
        @Process()
        async work(job: Job): Promise<string> {
            runs += 1;
            await job.moveToFailed({ message: "by hand" }, true);
            return "too late";
        }
    }
    const app = await services.app(moduleWith("failing", [Failing]));
    const job = await queueOf(app, "failing").add({}, { attempts: 2 });
    await assert.rejects(job.finished(), /by hand/);
    assert.equal(runs, 2);
});

test("a handler with concurrency 0 shares the places of the other handlers", async () => {
    let running = 0;
    let most = 0;
    @Processor("shared")
    class Shared {
        @Process({ name: "first", concurrency: 0 })
        async first(): Promise<string> {
            running += 1;
            most = Math.max(most, running);
            await new Promise((wake) => setTimeout(wake, 20));
            running -= 1;
            return "first";
        }
        @Process({ name: "second", concurrency: 2 })
        second(): Promise<string> {
            return this.first();
        }
    }
    const app = await services.app(moduleWith("shared", [Shared]));
    const jobs = await queueOf(app, "shared").addBulk(Array.from({ length: 8 }, (_, i) => ({ name: i % 2 ? "first" : "second", data: i })));
    assert.deepEqual(await Promise.all(jobs.map((job) => job.finished())), Array.from({ length: 8 }, () => "first"));
    assert.equal(most, 2);
});

test("discard and UnrecoverableError leave no further attempt", async () => {
    const runs: string[] = [];
    @Processor("discarded")
    class Discarded {
        @Process("discard")
        async discard(job: Job): Promise<void> {
            runs.push(job.name);
            await job.discard();
            throw new Error("discarded");
        }
        @Process("unrecoverable")
        unrecoverable(job: Job): void {
            runs.push(job.name);
            throw new UnrecoverableError("for good");
        }
    }
    const app = await services.app(moduleWith("discarded", [Discarded]));
    const queue = queueOf(app, "discarded");
    const first = await queue.add("discard", {}, { attempts: 5 });
    const second = await queue.add("unrecoverable", {}, { attempts: 5 });
    await assert.rejects(first.finished(), /discarded/);
    await assert.rejects(second.finished(), /for good/);
    assert.deepEqual(runs, ["discard", "unrecoverable"]);
});

test("an attempt that fails is an event, and the next attempt sees attemptsMade", async () => {
    const events: unknown[] = [];
    @Processor("attempts")
    class Attempts {
        @Process()
        work(job: Job): string {
            if (job.attemptsMade < 2) {
                throw new Error(`attempt ${job.attemptsMade}`);
            }
            return `after ${job.attemptsMade} of ${job.opts.attempts}`;
        }
        @OnQueueFailed()
        failed(job: Job, error: Error): void {
            events.push([job.attemptsMade, job.failedReason, error.message, job.finishedOn, job.stacktrace.length]);
        }
    }
    const app = await services.app(moduleWith("attempts", [Attempts]));
    const job = await queueOf(app, "attempts").add({}, { attempts: 3 });
    assert.equal(await job.finished(), "after 2 of 3");
    // As in Bull, `attemptsMade` counts only failed attempts.
    assert.deepEqual([job.attemptsMade, (await queueOf(app, "attempts").getJob(job.id))?.attemptsMade], [2, 2]);
    assert.deepEqual(events, [
        [1, "attempt 0", "attempt 0", undefined, 1],
        [2, "attempt 1", "attempt 1", undefined, 1],
    ]);
});

test("a handler with two parameters gets a callback", async () => {
    @Processor("callbacks")
    class Callbacks {
        @Process("good")
        good(job: Job, done: DoneCallback): void {
            setImmediate(() => done(null, { of: job.data.n }));
        }
        @Process("bad")
        bad(_job: Job, done: DoneCallback): void {
            done(new Error("by callback"));
        }
        @Process("thrown")
        async thrown(_job: Job, _done: DoneCallback): Promise<void> {
            throw new Error("not by callback");
        }
    }
    const app = await services.app(moduleWith("callbacks", [Callbacks]));
    const queue = queueOf(app, "callbacks");
    assert.deepEqual(await (await queue.add("good", { n: 7 })).finished(), { of: 7 });
    await assert.rejects((await queue.add("bad", {})).finished(), /by callback/);
    await assert.rejects((await queue.add("thrown", {})).finished(), /not by callback/);
});

test("a handler that does not wait for its progress keeps only the newest value", async () => {
    const reported: unknown[] = [];
    @Processor("progress")
    class Progress {
        @Process()
        async work(job: Job): Promise<number> {
            const promises = new Set<Promise<void>>();
            for (let step = 0; step < 1_000; step += 1) {
                promises.add(job.progress({ step }));
            }
            await Promise.all(promises);
            return promises.size;
        }
        @OnQueueProgress()
        progress(_: Job, { step }: { step: number }): void {
            reported.push(step);
        }
    }
    const app = await services.app(moduleWith("progress", [Progress]));
    const queue = queueOf(app, "progress");
    assert.equal(await (await queue.add({})).finished(), 2);
    assert.deepEqual(reported, [0, 999]);
});

test("a handler that throws a ReleaseError with a hold key runs again after the signal", async () => {
    @Processor("hold")
    class Hold {
        #runs = 0;
        @Process()
        work(): string {
            this.#runs += 1;
            if (this.#runs === 1) {
                throw new ReleaseError({ hold: "paid:42" });
            }
            return "paid";
        }
    }
    const app = await services.app(moduleWith("hold", [Hold]));
    const queue = queueOf(app, "hold");
    const job = await queue.add({}, { attempts: 1 });
    await until("the job is held", async () => (await queue.drover.signal("paid:42")) === 1);
    assert.equal(await job.finished(), "paid");
});

test("listeners get the events of all jobs, or of one name or id", async () => {
    const seen: string[] = [];
    const note = (what: string, job: Job): number => seen.push(`${what} ${job.name} ${job.id}`);
    @Processor("events")
    class Events {
        @Process("*")
        async work(job: Job): Promise<string> {
            await job.progress(40);
            seen.push(`in handler ${job.name} ${job.id} ${String(job.progress())}`);
            if (job.name === "bad") {
                throw new Error("is bad");
            }
            return `did ${job.name}`;
        }
        @OnQueueActive()
        active(job: Job): void {
            note("active", job);
        }
        @OnQueueActive({ name: "good" })
        activeGood(job: Job): void {
            note("active-good", job);
        }
        @OnQueueCompleted({ id: "my-id" })
        completedMine(job: Job, result: unknown): void {
            note(`completed-mine ${String(result)}`, job);
        }
        @OnQueueEvent(BullQueueEvents.COMPLETED)
        completed(job: Job): void {
            note("completed", job);
        }
        @OnQueueFailed()
        failed(job: Job, error: Error): void {
            note(`failed ${error.message}`, job);
        }
        @OnQueueFailed({ name: "good" })
        failedGood(job: Job): void {
            note("failed-good", job);
        }
        @OnQueueProgress()
        progress(job: Job, progress: number): void {
            note(`progress ${progress}`, job);
        }
        @OnQueueWaiting()
        waiting(jobId: string): void {
            seen.push(`waiting ${jobId}`);
        }
        @OnQueueRemoved()
        removed(job: Job): void {
            note("removed", job);
        }
        @OnQueueDrained()
        drained(): void {
            seen.push("drained");
        }
    }
    const app = await services.app(moduleWith("events", [Events]));
    const queue = queueOf(app, "events");
    const mine = await queue.add("good", {}, { jobId: "my-id" });
    await mine.finished();
    await until("the first job's events and the end of the queue", () => seen.includes("drained"));
    const other = await queue.add("bad", {}, { jobId: "other-id" });
    await assert.rejects(other.finished(), /is bad/);
    await until("the failure", () => seen.includes("failed is bad bad other-id"));
    await mine.remove();
    assert.equal(await queue.getJob("my-id"), null);
    const expected = [
        ...["waiting my-id", "active good my-id", "active-good good my-id", "progress 40 good my-id", "in handler good my-id 40"],
        ...["completed-mine did good good my-id", "completed good my-id", "drained", "removed good my-id"],
        ...["waiting other-id", "active bad other-id", "progress 40 bad other-id", "in handler bad other-id 40"],
        ...["failed is bad bad other-id"],
    ];
    assert.deepEqual([...new Set(seen)].sort(), expected.sort());
});

test("an error of a listener is an error event and disturbs neither job nor process", async () => {
    const errors: string[] = [];
    @Processor("listeners")
    class Listeners {
        @Process()
        work(): string {
            return "done";
        }
        @OnQueueActive()
        active(): void {
            throw new Error("thrown by a listener");
        }
        @OnQueueCompleted()
        async completed(): Promise<void> {
            throw new Error("rejected by a listener");
        }
        @OnQueueError()
        error(error: Error): void {
            errors.push(error.message);
        }
    }
    const app = await services.app(moduleWith("listeners", [Listeners]));
    assert.equal(await (await queueOf(app, "listeners").add({})).finished(), "done");
    await until("both errors", () => errors.length === 2);
    assert.deepEqual(errors.sort(), ["rejected by a listener", "thrown by a listener"]);
});

test("a job whose timeout is over fails, and the signal of its handler is aborted", async () => {
    const failed = deferred<[Job, Error]>();
    const end = deferred();
    const told = deferred<unknown>();
    @Processor("timeouts")
    class Timeouts {
        @Process()
        async work(job: Job): Promise<string> {
            job.abortSignal?.addEventListener("abort", () => told.resolve(job.abortSignal?.reason));
            await end.promise;
            return "too late";
        }
        @OnQueueFailed()
        failed(job: Job, error: Error): void {
            failed.resolve([job, error]);
        }
    }
    const app = await services.app(moduleWith("timeouts", [Timeouts]));
    const job = await queueOf(app, "timeouts").add({}, { timeout: 300 });
    await assert.rejects(job.finished(), /timeout of 300 ms/);
    const [seen, error] = await failed.promise;
    assert.equal(seen.id, job.id);
    assert.equal(await told.promise, error);
    assert.equal((await services.get(`timeouts/messages/${job.id}`)).error.code, "timed_out");
    end.resolve();
});

test("a job whose process died is given to another process", async () => {
    const name = "stalled";
    const { id } = await services.post(`${name}/messages`, { data: 1 });
    // The consumer leases the job, and sends no further request, as if it were killed.
    const leased = await services.post(`${name}/leases`, { max: 1, visibility_timeout: 300 });
    assert.equal(leased.messages[0].id, id);
    @Processor(name)
    class Stalled {
        @Process()
        work(job: Job): string {
            return `attempt after ${job.attemptsMade}`;
        }
    }
    await services.app(moduleWith(name, [Stalled], { settings: { lockDuration: 5_000, maxStalledCount: 1 } }));
    const message = await services.get(`${name}/messages/${id}?wait=20s`);
    assert.deepEqual([message.state, message.result, message.lapses], ["completed", "attempt after 0", 1]);
    assert.equal((await services.get(name)).settings.max_lapses, 2);
});

test("a request-scoped processor has an instance for each job", async () => {
    let instances = 0;
    @Injectable()
    class Dependency {
        readonly text = "injected";
    }
    @Processor({ name: "scoped", scope: Scope.REQUEST })
    class Scoped {
        readonly number = ++instances;
        constructor(
            @Inject(JOB_REF) private readonly job: Job,
            private readonly dependency: Dependency,
        ) {}
        @Process()
        work(job: Job): unknown {
            return { same: job === this.job, number: this.number, text: this.dependency.text };
        }
    }
    const app = await services.app(moduleWith("scoped", [Scoped, Dependency]));
    const queue = queueOf(app, "scoped");
    const results = [await (await queue.add({})).finished(), await (await queue.add({})).finished()];
    assert.deepEqual(results, [
        { same: true, number: 1, text: "injected" },
        { same: true, number: 2, text: "injected" },
    ]);
});

test("registerQueue takes functions as processors", async () => {
    const processors = [
        (job: Job) => Promise.resolve(`function ${job.data}`),
        { name: "named", concurrency: 2, callback: (job: Job) => Promise.resolve(`named ${job.data}`) },
    ];
    const app = await services.app(moduleWith("functions", [], { processors }));
    const queue = queueOf(app, "functions");
    assert.equal(await (await queue.add("__default__", 1)).finished(), "function 1");
    assert.equal(await (await queue.add("named", 2)).finished(), "named 2");
});

test("queues are injected, and jobs add jobs", async () => {
    @Processor("chain")
    class Chain {
        constructor(@InjectQueue("chain") private readonly queue: Queue<{ n: number }>) {}
        @Process()
        async work(job: Job<{ n: number }>): Promise<number | string> {
            if (job.data.n === 0) {
                return "end";
            }
            const next = await this.queue.add({ n: job.data.n - 1 });
            return Number(next.id);
        }
    }
    const app = await services.app(moduleWith("chain", [Chain]));
    const queue = queueOf<{ n: number }>(app, "chain");
    let result = await (await queue.add({ n: 2 })).finished();
    result = await (await queue.getJob(result as number))?.finished();
    assert.equal(await (await queue.getJob(result as number))?.finished(), "end");
});

test("two handlers for one name, and a processor of an unknown queue, are errors at start", async () => {
    @Processor("twice")
    class Twice {
        @Process()
        one(): void {}
        @Process()
        two(): void {}
    }
    await assert.rejects(services.app(moduleWith("twice", [Twice])), /two handlers for jobs named __default__/);
    @Processor("unknown")
    class Unknown {}
    await assert.rejects(services.app(moduleWith("known", [Unknown])));
});
