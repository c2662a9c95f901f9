// Processes the jobs of the queue, and logs what happens.
import { setTimeout } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { OnQueueActive, OnQueueCompleted, OnQueueFailed, Process, Processor } from 'drover-nestjs';
import { Job } from 'drover-nestjs';

@Processor('my-queue')
export class MyQueueConsumer {
  private readonly logger = new Logger(MyQueueConsumer.name);

  @Process('my-queue')
  async process(job: Job): Promise<void> {
    this.logger.log(`processes job ${job.id}: ${JSON.stringify(job.data)}`);
    // The pause stands for the work on the job.
    await setTimeout(100);
    await job.moveToCompleted('processed ✅');
  }

  @OnQueueActive()
  onActive(job: Job): void {
    this.logger.log(`job ${job.id} is active`);
  }

  @OnQueueCompleted()
  onCompleted(job: Job, result: unknown): void {
    this.logger.log(`job ${job.id} is completed: ${String(result)}`);
  }

  @OnQueueFailed()
  onFailed(job: Job, error: Error): void {
    this.logger.error(`job ${job.id} has failed: ${error.message}`);
  }
}
