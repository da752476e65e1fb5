import { readFileSync } from 'node:fs';

/** What runs: read once, when this release starts. */
export const release = {
  version: read('../../package.json').version as string,
  build: read('./build.json').kind as string,
  environment: process.env.LANDFALL_ENV,
};

function read(path: string) {
  return JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));
}
