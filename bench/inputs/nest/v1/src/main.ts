import 'reflect-metadata'; import { NestFactory } from '@nestjs/core'; import { AppModule } from './app.module';
async function main() { const app = await NestFactory.create(AppModule); await app.listen(Number(process.env.PORT ?? 3001)); } main();
