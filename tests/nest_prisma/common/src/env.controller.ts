import { Controller, Get } from '@nestjs/common';

/** Only in tests: what a process really sees, which /proc does not show once a program has changed it. */
@Controller('env')
export class EnvController {
  @Get()
  env() {
    return { pid: process.pid, cwd: process.cwd(), env: process.env };
  }
}
