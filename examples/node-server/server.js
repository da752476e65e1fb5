"use strict";
// Answers with what it was asked, and says how long it has run.

const http = require("node:http");
const ms = require("ms");
const { version } = require("./package.json");

const server = http.createServer((request, response) => {
  response.setHeader("content-type", "application/json");
  const { method, url } = request;
  response.end(`${JSON.stringify({ version, method, url, up: ms(Math.round(process.uptime() * 1000)) })}\n`);
});

server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log(`echo ${version} on ${process.env.PORT}`));

process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
