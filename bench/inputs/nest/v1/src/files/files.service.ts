import { Injectable, NotFoundException } from '@nestjs/common'; import { CreateFilesDto } from './files.dto';
@Injectable() export class FilesService { private rows: any[] = []; all() { return this.rows; } one(id: number) { const r = this.rows[id]; if (!r) throw new NotFoundException(); return r; } create(d: CreateFilesDto) { this.rows.push(d); return d; } }
