//! A small server that is given its socket, and recipes for it.

use super::Source;

/// Answers with its release, a moment after it is asked; ends its answers before it stops. Its ways are set by a
/// file beside it.
const SERVER: &str = r#"
const http = require('node:http');
const way = require('node:fs').readFileSync('way', 'utf8').trim();
const onTrial = process.env.LANDFALL_PREFLIGHT === '1';
if (way === 'throws') throw new Error('this version cannot boot');
const sick = way === 'answers 500' || (way === 'sick in service' && !onTrial);
const server = http.createServer((request, response) => {
  if (request.url === '/health' && sick) return response.writeHead(500).end('{"status":"broken"}');
  if (request.url === '/health') return response.end('{"status":"ok"}');
  const status = way === 'answers 500' ? 500 : 200;
  const body = JSON.stringify({ LANDFALL_RELEASE: process.env.LANDFALL_RELEASE, pid: process.pid });
  setTimeout(() => response.writeHead(status).end(body), 5);
});
if (way === 'never listens') setInterval(() => {}, 1000);
else server.listen(process.env.LISTEN_FDS ? { fd: 3 } : Number(process.env.PORT));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
"#;

/// In `[start]`: the server is given its socket.
pub const SOCKET: &str = "socket = \"127.0.0.1:${PORT}\"";

/// What this server needs of a recipe, before anything that a test adds.
pub fn recipe(port: u16, start: &str, more: &str) -> String {
    format!(
        r#"app = "web"
version = "1"

[[layer]]
name = "app"
files = [{{ from = "app", to = "" }}]

[env]
set = {{ PORT = "{port}" }}

[start]
run = ["node", "server.js"]
{start}

[health]
http = "http://127.0.0.1:${{PORT}}/health"
body_contains = '"status":"ok"'
attempts = 60
interval = "1s"
timeout = "10s"
settle = "500ms"

{more}
"#
    )
}

/// A version of the server on a socket, with this way.
pub fn version(port: u16, way: &str, more: &str) -> Source {
    server(&recipe(port, SOCKET, more), way)
}

/// The server under any recipe.
pub fn server(recipe: &str, way: &str) -> Source {
    Source::new(recipe).with("app/server.js", SERVER.as_bytes()).with("app/way", way.as_bytes())
}
