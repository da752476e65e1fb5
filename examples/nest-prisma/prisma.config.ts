import { PrismaLibSQL } from '@prisma/adapter-libsql';
import { defineConfig } from 'prisma/config';

// Migrations through the same driver as the app's queries: no schema engine is needed on a host. With a config
// file Prisma reads no .env by itself; landfall has set DATABASE_URL from both layers.
export default defineConfig({
  experimental: { adapter: true },
  engine: 'js',
  schema: 'prisma/schema',
  migrations: { path: 'prisma/schema/migrations' },
  adapter: async () => new PrismaLibSQL({ url: process.env.DATABASE_URL ?? '' }),
});
