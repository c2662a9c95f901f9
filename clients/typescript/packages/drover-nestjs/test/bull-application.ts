/**
 * An application that was written for @nestjs/bull 12 and bull 4, and that compiles with these packages, too. The lines with a comment
 * "Changed" are the only lines that differ from the application for @nestjs/bull. This file must compile with strict TypeScript, and
 * `bull-application.test.ts` runs the application.
 */
import "reflect-metadata";
import { Body, Controller, Get, Injectable, Module, NotFoundException, Param, Post } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
// Changed: from "@nestjs/bull".
import {
    BullModule,
    BullModuleOptions,
    BullOptionsFactory,
    BullQueueEvents,
    BullRootModuleOptions,
    getQueueToken,
    InjectQueue,
    OnGlobalQueueCompleted,
    OnQueueActive,
    OnQueueCleaned,
    OnQueueCompleted,
    OnQueueDrained,
    OnQueueError,
    OnQueueEvent,
    OnQueueFailed,
    OnQueuePaused,
    OnQueueProgress,
    OnQueueRemoved,
    OnQueueResumed,
    OnQueueStalled,
    OnQueueWaiting,
    Process,
    Processor,
    SharedBullConfigurationFactory,
} from "drover-nestjs";
// Changed: from "bull".
import Bull, { DoneCallback, Job, JobCounts, JobId, JobOptions, JobStatus, Queue, QueueOptions } from "drover-nestjs";

export interface Mail {
    to: string;
    n?: number;
}

/** The events that the listeners received. */
export const seen: string[] = [];

@Injectable()
class AppService {
    constructor(
        @InjectQueue("my-queue") private readonly queue: Queue<Mail>,
        @InjectQueue("other") private readonly other: Queue,
    ) {}

    add(data: Mail): Promise<Job<Mail>> {
        return this.queue.add("my-queue", data, { delay: 100, attempts: 3, backoff: { type: "exponential", delay: 50 } });
    }

    async addMore(): Promise<JobId[]> {
        const options: JobOptions = { priority: 1, jobId: 42, timeout: 5000, removeOnFail: { age: 3600, count: 5 } };
        const job = await this.other.add({ x: 1 }, options);
        const jobs = await this.other.addBulk([{ name: "named", data: 1 }, { data: 2, opts: { lifo: false } }]);
        return [job.id, ...jobs.map(({ id }) => id)];
    }

    find(id: JobId): Promise<Bull.Job<Mail> | null> {
        return this.queue.getJob(id);
    }

    counts(): Promise<JobCounts> {
        return this.queue.getJobCounts();
    }

    list(states: JobStatus[]): Promise<Job<Mail>[]> {
        return this.queue.getJobs(states, 0, 10, true);
    }

    async manage(): Promise<{ id: JobId; waiting: number; repetitions: number }> {
        await this.queue.pause();
        await this.queue.resume();
        await this.queue.isReady();
        await this.queue.clean(1000, "completed");
        const { id } = await this.queue.add("tick", { to: "x" }, { repeat: { cron: "*/5 * * * *", tz: "UTC", limit: 3 } });
        await this.queue.add("tock", { to: "x" }, { repeat: { every: 60_000 } });
        for (const { key } of await this.queue.getRepeatableJobs()) {
            await this.queue.removeRepeatableByKey(key);
        }
        await this.queue.removeRepeatable("tick", { cron: "*/5 * * * *" });
        return { id, waiting: await this.queue.getWaitingCount(), repetitions: (await this.queue.getRepeatableJobs()).length };
    }
}

@Controller()
class AppController {
    constructor(private readonly service: AppService) {}

    @Post()
    add(@Body() data: Mail) {
        return this.service.add(data);
    }

    @Post("json")
    async addJson(@Body() data: Mail) {
        return (await this.service.add(data)).toJSON();
    }

    @Post("more")
    addMore() {
        return this.service.addMore();
    }

    @Post("manage")
    manage() {
        return this.service.manage();
    }

    @Get("counts")
    counts() {
        return this.service.counts();
    }

    @Get("completed")
    completed() {
        return this.service.list(["completed"]);
    }

    @Get("jobs/:id")
    async find(@Param("id") id: string) {
        const job = await this.service.find(id);
        if (!job) {
            throw new NotFoundException();
        }
        const state: JobStatus | "stuck" = await job.getState();
        return { ...job.toJSON(), state };
    }

    @Get("results/:id")
    async result(@Param("id") id: string) {
        return { result: await (await this.service.find(id))?.finished() };
    }
}

@Processor("my-queue")
class MyProcessor {
    @Process("my-queue")
    async handle(job: Job<Mail>) {
        await job.progress(50);
        await job.moveToCompleted(`processed ${job.data.to} ✅`, true);
    }

    @Process({ name: "tick", concurrency: 2 })
    async tick(job: Job<Mail>): Promise<{ at: number }> {
        return { at: job.timestamp };
    }

    @Process("*")
    any(job: Job<Mail>, done: DoneCallback) {
        done(null, job.name);
    }

    @OnQueueActive()
    onActive(job: Job<Mail>) {
        seen.push(`active ${job.id}`);
    }

    @OnQueueCompleted()
    onCompleted(job: Job<Mail>, result: any) {
        seen.push(`completed ${job.id} ${result}`);
    }

    @OnQueueFailed()
    onFailed(job: Job<Mail>, error: Error) {
        if (job.attemptsMade >= (job.opts.attempts ?? 1)) {
            seen.push(`failed ${job.id} ${error.message}`);
        }
    }

    @OnQueueError()
    onError(error: Error) {
        seen.push(`error ${error.message}`);
    }

    @OnQueueWaiting()
    onWaiting(jobId: number | string) {
        seen.push(`waiting ${jobId}`);
    }

    @OnQueueStalled()
    onStalled(job: Job) {
        seen.push(`stalled ${job.id}`);
    }

    @OnQueueProgress({ name: "my-queue" })
    onProgress(job: Job, progress: number) {
        seen.push(`progress ${job.id} ${progress}`);
    }

    @OnQueuePaused()
    onPaused() {
        seen.push("paused");
    }

    @OnQueueResumed()
    onResumed(_job?: Job) {
        seen.push("resumed");
    }

    @OnQueueCleaned()
    onCleaned(jobs: Job[], type: string) {
        seen.push(`cleaned ${jobs.length} ${type}`);
    }

    @OnQueueDrained()
    onDrained() {
        seen.push("drained");
    }

    @OnQueueRemoved()
    onRemoved(job: Job) {
        seen.push(`removed ${job.id}`);
    }

    @OnQueueEvent(BullQueueEvents.COMPLETED)
    onEvent(job: Job) {
        seen.push(`event ${job.id}`);
    }

    @OnQueueEvent({ eventName: "completed", name: "tick" })
    onTick(job: Job) {
        seen.push(`tick ${job.id}`);
    }

    @OnGlobalQueueCompleted()
    onGlobalCompleted(jobId: number, result: any) {
        seen.push(`global ${jobId} ${result}`);
    }
}

@Injectable()
class Config implements SharedBullConfigurationFactory, BullOptionsFactory {
    createSharedConfiguration(): BullRootModuleOptions {
        return { defaultJobOptions: { attempts: 2 } };
    }

    createBullOptions(): BullModuleOptions {
        return { name: "other" };
    }
}

const more: QueueOptions = {
    limiter: { max: 1000, duration: 1000 },
    settings: { lockDuration: 5000, stalledInterval: 1000, maxStalledCount: 2 },
};

@Module({
    imports: [
        // Changed: the application for Bull has `redis: { host: "127.0.0.1", port: 6379 }` here instead of a URL. A factory makes the
        // options of `BullModule`, because the test knows Drover's address only when the application starts.
        BullModule.forRootAsync({ useFactory: () => ({ url: process.env["DROVER_URL"], limiter: { max: 1000, duration: 1000 } }) }),
        BullModule.registerQueue({ name: "my-queue", ...more, defaultJobOptions: { removeOnComplete: 100, removeOnFail: false } }),
        BullModule.registerQueueAsync({ name: "other", useFactory: async () => ({ defaultJobOptions: { attempts: 2 } }) }),
        BullModule.forRootAsync("alt", { useClass: Config }),
    ],
    controllers: [AppController],
    providers: [AppService, MyProcessor],
})
class AppModule {}

export async function bootstrap() {
    const app = await NestFactory.create(AppModule, { logger: false });
    app.enableShutdownHooks();
    const queue: Queue<Mail> = app.get<Queue>(getQueueToken("my-queue"));
    queue.on("completed", (job, result) => seen.push(`on ${job.id} ${result}`));
    await app.listen(0, "127.0.0.1");
    return app;
}
