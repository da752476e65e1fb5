import { readFileSync } from 'node:fs';

const { version } = JSON.parse(readFileSync(new URL('./package.json', import.meta.url), 'utf8'));

export default {
  // A self-contained server: only the files that it loads, no `npm install` on a host.
  output: 'standalone',
  // Without it Next guesses a root from lockfiles further up, and the paths in the output change with the guess.
  outputFileTracingRoot: import.meta.dirname,
  // The default is random; this way two builds of one version name their chunks alike.
  generateBuildId: () => `harbour-${version}`,
  poweredByHeader: false,
};
