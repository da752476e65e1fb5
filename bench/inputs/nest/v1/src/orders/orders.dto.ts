import { IsString, IsNumber, MinLength } from 'class-validator'; export class CreateOrdersDto { @IsString() @MinLength(2) name: string; @IsNumber() amount: number; }
