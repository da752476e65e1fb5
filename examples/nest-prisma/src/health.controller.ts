import { Controller, Get } from '@nestjs/common';
import { Database } from './database.js';
import { release } from './release.js';

/** Answers only when the database does. */
@Controller('health')
export class HealthController {
  constructor(private readonly database: Database) {}

  @Get()
  async health() {
    const berths = await this.database.berth.count();
    return { status: 'ok', harbour: process.env.HARBOUR_NAME, berths, ...release };
  }
}
