import { Controller, Get, Post, Body, Param, ParseIntPipe } from '@nestjs/common'; import { ApiTags } from '@nestjs/swagger'; import { FilesService } from './files.service'; import { CreateFilesDto } from './files.dto';
@ApiTags('files') @Controller('files') export class FilesController { constructor(private readonly svc: FilesService) {}
  @Get() all() { return this.svc.all(); } @Get(':id') one(@Param('id', ParseIntPipe) id: number) { return this.svc.one(id); } @Post() create(@Body() dto: CreateFilesDto) { return this.svc.create(dto); } }
