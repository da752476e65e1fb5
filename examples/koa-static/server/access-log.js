"use strict";
// A log of its own, in a directory that outlives the releases.

const fs = require("node:fs");
const path = require("node:path");

module.exports = function accessLog(file) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const log = fs.createWriteStream(file, { flags: "a" });
  return async (ctx, next) => {
    const began = Date.now();
    await next();
    log.write(`${new Date(began).toISOString()} ${ctx.method} ${ctx.path} ${ctx.status} ${Date.now() - began}ms\n`);
  };
};
