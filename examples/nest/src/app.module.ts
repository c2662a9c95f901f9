// The module of the application: the connection to Drover, the queue, and the producer and the consumer of the queue's jobs.
import { Module } from '@nestjs/common';
import { BullModule } from 'drover-nestjs';
import { AppController } from './app.controller';
import { AppService } from './app.service';
import { MyQueueConsumer } from './my-queue.consumer';

@Module({
  imports: [
    BullModule.forRoot({
      url: process.env.DROVER_URL ?? 'http://127.0.0.1:8080',
      limiter: { max: 100, duration: 1000 },
    }),
    BullModule.registerQueue({ name: 'my-queue' }),
  ],
  controllers: [AppController],
  providers: [AppService, MyQueueConsumer],
})
export class AppModule {}
