"use strict";
// What differs from environment to environment, chosen by SERVER_ENV as it always was.

const environments = {
  stable: { notice: "Development: nothing here sails." },
  sit: { notice: "Integration test: nothing here sails." },
  pre: { notice: "Rehearsal of the next timetable." },
  prod: { notice: "" },
};

const environment = process.env.SERVER_ENV;
if (!Object.hasOwn(environments, environment ?? "")) {
  const known = Object.keys(environments).join(", ");
  console.error(`SERVER_ENV is ${environment ?? "not set"}: one of ${known} is needed`);
  process.exit(1);
}

module.exports = {
  environment,
  host: process.env.HOST || "127.0.0.1",
  port: Number(process.env.PORT || 3200),
  assetsUrl: (process.env.ASSETS_URL || "").replace(/\/$/, ""),
  departures: [
    { at: "07:15", to: "Kennacraig" },
    { at: "12:45", to: "Kennacraig" },
    { at: "18:00", to: "Colonsay" },
  ],
  ...environments[environment],
};
