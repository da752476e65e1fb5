import { Controller, Get, Post, Body, Param, ParseIntPipe } from '@nestjs/common'; import { ApiTags } from '@nestjs/swagger'; import { OrdersService } from './orders.service'; import { CreateOrdersDto } from './orders.dto';
@ApiTags('orders') @Controller('orders') export class OrdersController { constructor(private readonly svc: OrdersService) {}
  @Get() all() { return this.svc.all(); } @Get(':id') one(@Param('id', ParseIntPipe) id: number) { return this.svc.one(id); } @Post() create(@Body() dto: CreateOrdersDto) { return this.svc.create(dto); } }
