"use strict";
// The server: pages that name the client assets, and the departures that those ask for.

const Koa = require("koa");
const Router = require("@koa/router");

const config = require("./config");
const page = require("./page");
const pidFile = require("./pid-file");
const accessLog = require("./access-log");
const { version } = require("../package.json");

const health = { status: "ok", version, environment: config.environment };

const router = new Router();
router.get("/", (ctx) => {
  ctx.type = "html";
  ctx.body = page({ ...config, version });
});
router.get("/api/departures", (ctx) => {
  ctx.body = { departures: config.departures };
});
router.get("/health", (ctx) => {
  ctx.body = health;
});

const app = new Koa();
app.use(accessLog("logs/access.log"));
app.use(router.routes());
app.use(router.allowedMethods());

const server = app.listen(config.port, config.host, () => {
  pidFile.write();
  console.log(`timetable ${version} (${config.environment}) on ${config.host}:${config.port}`);
});

process.on("SIGTERM", () => {
  // Answers what has been asked, and takes no more.
  server.close(() => {
    pidFile.remove();
    process.exit(0);
  });
  server.closeIdleConnections();
});
