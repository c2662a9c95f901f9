// Starts the application on PORT, by default 8092.
import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module';

async function bootstrap(): Promise<void> {
  const app = await NestFactory.create(AppModule);
  // After SIGTERM or SIGINT, the application finishes its running jobs before it ends.
  app.enableShutdownHooks();
  await app.listen(process.env.PORT ?? 8092, '127.0.0.1');
}

void bootstrap();
