import { Injectable, NotFoundException } from '@nestjs/common'; import { CreateBillingDto } from './billing.dto';
@Injectable() export class BillingService { private rows: any[] = []; all() { return this.rows; } one(id: number) { const r = this.rows[id]; if (!r) throw new NotFoundException(); return r; } create(d: CreateBillingDto) { this.rows.push(d); return d; } }
