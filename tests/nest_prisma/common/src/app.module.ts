import { Module } from '@nestjs/common';
import { BerthsController } from './berths.controller.js';
import { Database } from './database.js';
import { EnvController } from './env.controller.js';
import { HealthController } from './health.controller.js';

@Module({ controllers: [BerthsController, EnvController, HealthController], providers: [Database] })
export class AppModule {}
