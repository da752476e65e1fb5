import { Controller, Get } from '@nestjs/common';
import { Database } from './database.js';

@Controller('berths')
export class BerthsController {
  constructor(private readonly database: Database) {}

  @Get()
  all() {
    return this.database.berth.findMany({ orderBy: { name: 'asc' } });
  }
}
