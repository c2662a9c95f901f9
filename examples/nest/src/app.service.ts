// Adds jobs to the queue, and reads them.
import { Injectable } from '@nestjs/common';
import { InjectQueue } from 'drover-nestjs';
import { Job, Queue } from 'drover-nestjs';

@Injectable()
export class AppService {
  constructor(@InjectQueue('my-queue') private readonly queue: Queue) {}

  add(data: unknown): Promise<Job> {
    return this.queue.add('my-queue', data, { delay: 1500 });
  }

  find(id: string): Promise<Job | null> {
    return this.queue.getJob(id);
  }
}
