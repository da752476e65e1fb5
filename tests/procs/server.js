// A server whose ways are set by its environment; used by the tests of health, preflight and pm2.
const http = require('node:http');
const env = process.env;
const headers = env.NAMED ? { 'x-landfall-start': env.LANDFALL_START } : {};
let answered = 0;
const server = http.createServer((request, response) => {
  answered += 1;
  if (env.HANG) return;
  if (env.REDIRECT) return response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end();
  if (env.FLAP && answered % 2 === 0) return response.writeHead(503, headers).end('flapping');
  if (env.FAIL_FIRST && answered <= Number(env.FAIL_FIRST)) return response.writeHead(500, headers).end('not yet');
  if (env.CLOSE) headers.connection = 'close';
  if (env.FLOOD) { response.writeHead(200, headers); return void setInterval(() => response.write('x'.repeat(1 << 16)), 1); }
  response.writeHead(200, headers);
  response.end(JSON.stringify({ status: env.STATUS || 'ok', release: env.RELEASE }));
  if (env.DIE_AFTER) setTimeout(() => process.exit(4), Number(env.DIE_AFTER));
});
if (env.LATE_THROW) setTimeout(() => { throw new Error('late'); }, Number(env.LATE_THROW));
setTimeout(() => server.listen(Number(env.PORT), env.HOSTNAME_ || '127.0.0.1'), Number(env.SLOW || 0));
process.on('SIGTERM', () => process.exit(0));
