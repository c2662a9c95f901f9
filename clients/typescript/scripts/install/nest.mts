// A Nest application that adds a job and works on it, as ES module.
import "reflect-metadata";

import { Injectable, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { DroverModule, InjectQueue, type Job, Process, Processor, type Queue } from "drover-nestjs";

@Injectable()
class Producer {
    constructor(@InjectQueue("nest-esm") readonly queue: Queue) {}
}

@Processor("nest-esm")
class Consumer {
    @Process()
    work(job: Job<{ n: number }>): number {
        return job.data.n * 2;
    }
}

@Module({
    imports: [DroverModule.forRoot({ url: process.argv[2] as string }), DroverModule.registerQueue({ name: "nest-esm" })],
    providers: [Producer, Consumer],
})
class AppModule {}

const application = await NestFactory.createApplicationContext(AppModule, { logger: ["error"] });
const job = await application.get(Producer).queue.add({ n: 21 });
console.log(`result: ${String(await job.finished())}`);
await application.close();
