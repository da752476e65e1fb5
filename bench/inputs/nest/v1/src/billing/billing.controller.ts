import { Controller, Get, Post, Body, Param, ParseIntPipe } from '@nestjs/common'; import { ApiTags } from '@nestjs/swagger'; import { BillingService } from './billing.service'; import { CreateBillingDto } from './billing.dto';
@ApiTags('billing') @Controller('billing') export class BillingController { constructor(private readonly svc: BillingService) {}
  @Get() all() { return this.svc.all(); } @Get(':id') one(@Param('id', ParseIntPipe) id: number) { return this.svc.one(id); } @Post() create(@Body() dto: CreateBillingDto) { return this.svc.create(dto); } }
