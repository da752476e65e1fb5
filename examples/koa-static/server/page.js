"use strict";
// The page: it names the client assets by the names that the build gave them.

const assets = require("./assets.json");

module.exports = function page({ assetsUrl, notice, version, environment }) {
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <title>Port Ellen ferries</title>
    <link rel="stylesheet" href="${assetsUrl}/${assets.style}">
    <script defer src="${assetsUrl}/${assets.script}"></script>
  </head>
  <body>
    <h1>Port Ellen ferries</h1>
    <p>${notice}</p>
    <ul id="departures"></ul>
    <footer>version ${version}, ${environment}</footer>
  </body>
</html>
`;
};
