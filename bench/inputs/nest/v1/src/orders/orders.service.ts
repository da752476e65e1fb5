import { Injectable, NotFoundException } from '@nestjs/common'; import { CreateOrdersDto } from './orders.dto';
@Injectable() export class OrdersService { private rows: any[] = []; all() { return this.rows; } one(id: number) { const r = this.rows[id]; if (!r) throw new NotFoundException(); return r; } create(d: CreateOrdersDto) { this.rows.push(d); return d; } }
