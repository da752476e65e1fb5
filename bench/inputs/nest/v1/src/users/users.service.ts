import { Injectable, NotFoundException } from '@nestjs/common'; import { CreateUsersDto } from './users.dto';
@Injectable() export class UsersService { private rows: any[] = []; all() { return this.rows; } one(id: number) { const r = this.rows[id]; if (!r) throw new NotFoundException(); return r; } create(d: CreateUsersDto) { this.rows.push(d); return d; } }
