"use strict";
// Who serves, for `npm run stop`.

const fs = require("node:fs");

const FILE = "run/server.pid";

module.exports = {
  write() {
    fs.mkdirSync("run", { recursive: true });
    fs.writeFileSync(FILE, `${process.pid}\n`);
  },
  read() {
    return fs.existsSync(FILE) ? Number(fs.readFileSync(FILE, "utf8")) : undefined;
  },
  remove() {
    fs.rmSync(FILE, { force: true });
  },
};
