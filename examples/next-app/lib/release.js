import { version } from '../package.json';

/** The version that was built, not the one that somebody hopes is running. */
export { version };

/** Read at each call: the values come from the host, not from the build. */
export function office() {
  return {
    name: process.env.HARBOUR_NAME ?? 'An unnamed harbour',
    notice: process.env.HARBOUR_NOTICE ?? '',
    environment: process.env.LANDFALL_ENV ?? 'none',
  };
}
