// A clustered server that tells what it sees of itself; used by the tests of pm2.
const http = require('node:http');
const code = require('./code.js');
const server = http.createServer((_, response) => {
  response.end(JSON.stringify({
    code, cwd: process.cwd(), env: process.env, argv: process.argv.slice(1), main: require.main === module, pid: process.pid,
  }));
});
server.listen(Number(process.env.PORT), '127.0.0.1', () => process.send && process.send('ready'));
process.on('SIGINT', () => { server.close(() => process.exit(0)); setTimeout(() => process.exit(0), 300); });
