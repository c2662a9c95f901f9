// A Nest application that adds a job and works on it, as CommonJS.
import "reflect-metadata";

import { Injectable, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { DroverModule, InjectQueue, type Job, Process, Processor, type Queue } from "drover-nestjs";

@Injectable()
class Producer {
    constructor(@InjectQueue("nest-cjs") readonly queue: Queue) {}
}

@Processor("nest-cjs")
class Consumer {
    @Process()
    work(job: Job<{ n: number }>): number {
        return job.data.n * 2;
    }
}

@Module({
    imports: [DroverModule.forRoot({ url: process.argv[2] as string }), DroverModule.registerQueue({ name: "nest-cjs" })],
    providers: [Producer, Consumer],
})
class AppModule {}

async function main(): Promise<void> {
    const application = await NestFactory.createApplicationContext(AppModule, { logger: ["error"] });
    const job = await application.get(Producer).queue.add({ n: 21 });
    console.log(`result: ${String(await job.finished())}`);
    await application.close();
}

void main();
