// POST / adds the body as a job and answers the job; GET /:id answers the job with its state.
import { Body, Controller, Get, NotFoundException, Param, Post } from '@nestjs/common';
import { AppService } from './app.service';

@Controller()
export class AppController {
  constructor(private readonly service: AppService) {}

  @Post()
  add(@Body() data: unknown) {
    return this.service.add(data);
  }

  @Get(':id')
  async find(@Param('id') id: string) {
    const job = await this.service.find(id);
    if (!job) {
      throw new NotFoundException(`there is no job ${id}`);
    }
    const state = await job.getState();
    return { ...job.toJSON(), state };
  }
}
