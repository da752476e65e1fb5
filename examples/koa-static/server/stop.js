"use strict";
// `npm run stop`: asks the server of this directory to end, and waits until it has.

const { setTimeout: pause } = require("node:timers/promises");
const pidFile = require("./pid-file");

function lives(pid) {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

async function stop() {
  const pid = pidFile.read();
  if (pid === undefined || !lives(pid)) {
    return console.log("nothing runs here");
  }
  process.kill(pid, "SIGTERM");
  while (lives(pid)) {
    await pause(20);
  }
  console.log(`stopped ${pid}`);
}

stop();
