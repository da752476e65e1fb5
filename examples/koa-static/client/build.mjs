// Compiles the client: names that carry the hash of the content, so that every release's files can lie side by side.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const dist = path.join(here, "dist");

fs.rmSync(dist, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: ["src/main.js", "src/style.css"],
  bundle: true,
  minify: true,
  format: "iife",
  outdir: "dist/assets",
  entryNames: "[name].[hash]",
  metafile: true,
});
fs.cpSync(path.join(here, "public"), dist, { recursive: true });

const outputs = Object.keys(metafile.outputs).map((name) => path.relative("dist", name));
const ending = (end) => outputs.find((name) => name.endsWith(end));
const names = { script: ending(".js"), style: ending(".css") };
fs.writeFileSync(path.join(here, "../server/assets.json"), `${JSON.stringify(names, null, 2)}\n`);
