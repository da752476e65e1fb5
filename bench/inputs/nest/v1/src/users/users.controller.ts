import { Controller, Get, Post, Body, Param, ParseIntPipe } from '@nestjs/common'; import { ApiTags } from '@nestjs/swagger'; import { UsersService } from './users.service'; import { CreateUsersDto } from './users.dto';
@ApiTags('users') @Controller('users') export class UsersController { constructor(private readonly svc: UsersService) {}
  @Get() all() { return this.svc.all(); } @Get(':id') one(@Param('id', ParseIntPipe) id: number) { return this.svc.one(id); } @Post() create(@Body() dto: CreateUsersDto) { return this.svc.create(dto); } }
