// `node build.mjs --dev | --prod`: what `nx build backend --dev | --prod` is in a workspace of Nx.
// Development output has source maps; production output has none.
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';

const kinds = { '--dev': 'development', '--prod': 'production' };
const kind = kinds[process.argv[2]];
if (!kind || process.argv.length !== 3) {
  console.error('usage: node build.mjs --dev | --prod');
  process.exit(2);
}

rmSync('dist', { recursive: true, force: true });
const run = (...command) => execFileSync('pnpm', ['exec', ...command], { stdio: 'inherit' });
run('prisma', 'generate');
run('tsc', ...(kind === 'development' ? ['--sourceMap'] : []));
const built = { kind, environment: process.env.LANDFALL_ENV };
writeFileSync('dist/backend/build.json', `${JSON.stringify(built)}\n`);
