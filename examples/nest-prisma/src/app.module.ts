import { Module } from '@nestjs/common';
import { BerthsController } from './berths.controller.js';
import { Database } from './database.js';
import { HealthController } from './health.controller.js';

@Module({ controllers: [BerthsController, HealthController], providers: [Database] })
export class AppModule {}
