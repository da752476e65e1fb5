import { IsString, IsNumber, MinLength } from 'class-validator'; export class CreateUsersDto { @IsString() @MinLength(2) name: string; @IsNumber() amount: number; }
