import { line } from "./line.js";

async function show() {
  const { departures } = await (await fetch("/api/departures")).json();
  document.querySelector("#departures").replaceChildren(...departures.map(line));
}

show();
