// The HTTP routes of the application: POST / adds a job whose data is the body, and GET /:id reads a job with its state.
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
