// Written by landfall; changes made here are lost.
//
// pm2 starts this file and never the app itself, because pm2 keeps environment keys that a new release has
// removed, remembers resolved directories, and writes what it knows into a readable dump. Everything about
// the release is therefore found out here, at each spawn: `current` says which release, the release's own
// private file says which environment. Nothing of pm2's environment reaches the app but its instance number.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const Module = require('node:module');
const { pathToFileURL } = require('node:url');

const order = JSON.parse(fs.readFileSync(process.env.LANDFALL_ORDER, 'utf8'));
const release = fs.realpathSync(order.current);
process.chdir(release);
const env = environment();

if (order.entry) {
  keepLastWords();
  loadEntry();
} else {
  runProgram();
}

/** The release's file, with what landfall adds for this very start. */
function environment() {
  let own = {};
  try {
    own = JSON.parse(fs.readFileSync(path.join(release, '.landfall', 'env.json'), 'utf8'));
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  // A worker that pm2 starts between the switch and the start belongs to no start yet.
  if (release !== fs.realpathSync(order.release)) return own;
  for (const key of order.unset) delete own[key];
  return Object.assign(own, order.set);
}

function loadEntry() {
  replaceEnvironment();
  if (require('node:cluster').isWorker) {
    drainBeforeStopping();
  } else if (order.signal !== 'SIGINT') {
    // pm2 always sends SIGINT first; an app may want another signal.
    process.on('SIGINT', () => process.kill(process.pid, order.signal));
  }
  const entry = require.resolve(path.resolve(release, order.entry));
  process.argv = [process.argv[0], entry, ...order.args];
  if (isModule(entry)) {
    import(pathToFileURL(entry).href);
  } else {
    Module._load(entry, null, true);
  }
}

/** In cluster mode pm2 exits before its own log has been written: what an app died of must not be lost. */
function keepLastWords() {
  if (!require('node:cluster').isWorker) return;
  process.on('uncaughtExceptionMonitor', (error) => {
    try {
      fs.appendFileSync(order.log, `${(error && error.stack) || error}\n`);
    } catch {
      // A full disk: pm2's log may still have room.
    }
  });
}

function replaceEnvironment() {
  const instance = process.env.NODE_APP_INSTANCE;
  for (const key of Object.keys(process.env)) delete process.env[key];
  Object.assign(process.env, env);
  if (instance !== undefined) process.env.NODE_APP_INSTANCE = instance;
}

/**
 * In a cluster a reload has the next worker listen already when pm2 sends SIGINT to this one. What would be lost is
 * requests on kept-alive connections, which node closes with the server: a client may just be sending one. So the
 * signal reaches the app only after every such connection has been told `connection: close` in an answer, or when
 * the time for that is up. New connections are answered all the while.
 */
function drainBeforeStopping() {
  const { worker } = require('node:cluster');
  const connections = new Set();
  const answers = new Set();
  let stage = 'serving';
  const raise = () => {
    if (stage !== 'leaving') return;
    stage = 'told';
    process.removeListener('SIGINT', nothing);
    process.kill(process.pid, order.signal);
  };
  const pass = () => {
    if (stage !== 'draining') return;
    stage = 'leaving';
    // Connections that pm2 has sent this way and that nobody has looked at yet would be lost with this process, and
    // never be answered: it takes leave of pm2 first, which passes them to another worker, and ends its answers.
    worker.once('disconnect', raise);
    worker.disconnect();
    setTimeout(raise, order.drain_ms);
  };
  const last = (response) => {
    if (!response.headersSent) response.setHeader('connection', 'close');
  };
  const gone = (connection) => {
    connections.delete(connection);
    if (connections.size === 0) pass();
  };
  require('node:diagnostics_channel').subscribe('http.server.request.start', ({ request, response }) => {
    const connection = request.socket;
    // Connections that come later are not waited for: there may be no end of them.
    if (stage === 'serving' && !connections.has(connection)) {
      connections.add(connection);
      connection.once('close', () => gone(connection));
    }
    answers.add(response);
    response.once('close', () => answers.delete(response));
    if (stage !== 'serving') last(response);
  });
  const nothing = () => {};
  const emit = process.emit;
  process.emit = function (event, ...rest) {
    if (event !== 'SIGINT' || stage === 'told') return emit.call(this, event, ...rest);
    if (stage === 'serving') {
      stage = 'draining';
      answers.forEach(last);
      setTimeout(pass, order.drain_ms);
      if (connections.size === 0) pass();
    }
    return true;
  };
  // Node takes `process.emit` as it finds it when the first listener of a signal comes, so this comes after.
  process.on('SIGINT', nothing);
}

function isModule(entry) {
  const extension = path.extname(entry);
  if (extension === '.mjs') return true;
  if (extension !== '.js') return false;
  for (let dir = path.dirname(entry); dir.startsWith(release); dir = path.dirname(dir)) {
    const file = path.join(dir, 'package.json');
    if (fs.existsSync(file)) return JSON.parse(fs.readFileSync(file, 'utf8')).type === 'module';
  }
  return false;
}

/** A program that is not node's to load: its output is this process's, its end as well. */
function runProgram() {
  const [program, ...args] = order.argv;
  const options = { cwd: release, env, stdio: ['ignore', 'inherit', 'inherit'] };
  const child = require('node:child_process').spawn(program, args, options);
  process.on('SIGINT', () => child.kill(order.signal));
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  child.on('error', (error) => {
    console.error(`landfall: ${program} did not start: ${error.message}`);
    process.exit(127);
  });
  child.on('exit', (code, signal) => process.exit(signal ? 128 + os.constants.signals[signal] : code));
}
