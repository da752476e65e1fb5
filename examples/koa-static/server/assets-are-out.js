"use strict";
// A release step of the servers: waits until the static hosts have what this release's pages name.
// Exit status 75 says "not yet": landfall tries again later, and blames nobody.

const { setTimeout: pause } = require("node:timers/promises");
const assets = require("./assets.json");

const PATIENCE_MS = 60_000;
const PAUSE_MS = 500;

async function missing(base) {
  for (const name of Object.values(assets)) {
    const url = `${base}/${name}`;
    try {
      const answer = await fetch(url, { method: "HEAD" });
      if (!answer.ok) return `${url} answers ${answer.status}`;
    } catch (error) {
      return `${url}: ${error.cause?.message ?? error.message}`;
    }
  }
}

async function wait() {
  const base = (process.env.ASSETS_URL || "").replace(/\/$/, "");
  if (!base) return console.log("ASSETS_URL is empty: the assets are somebody else's business");
  const end = Date.now() + PATIENCE_MS;
  let why;
  while ((why = await missing(base))) {
    if (Date.now() > end) {
      console.error(why);
      process.exit(75);
    }
    await pause(PAUSE_MS);
  }
  console.log(`${base} has every asset of this release`);
}

wait();
