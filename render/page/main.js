/**
 * main.js -- start the panels, and tell them when the state changes.
 */
import {find, head, matrix} from "./data.js";
import {redraw} from "./panel.js";
import {load, loadStack, normalise, selected} from "./selection.js";
import * as state from "./state.js";
import * as pickers from "./pickers.js";
import * as text from "./text.js";
import * as map from "./map.js";
import * as heads from "./heads.js";
import * as lag from "./lag.js";
import * as own from "./own.js";
import * as graph from "./graph.js";
import * as trust from "./trust.js";
import {mountSummary, say} from "./summary.js";

const SELECTION = ["site", "score", "layer", "head"];

function applyTheme() {
  const chosen = state.state.theme;
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

async function onChange(changed) {
  const has = (names) => names.some((n) => changed.has(n));
  if (changed.has("theme")) applyTheme();
  pickers.draw();
  if (has([...SELECTION, "scale"]) && !(await load())) return;
  if (changed.has("loss")) graph.load();
  redraw(
    (p) =>
      changed.has("theme") ||
      (p.id === "graph" ? has(["keep", "source", "loss"]) : p.id !== "trust"),
  );
  if (has(["site", "score", "head"]) && (await loadStack()))
    redraw((p) => p.id === "lag" || p.id === "reach");
  say(base);
}

let base = null;

/* The loss whose gradient at other positions' embeddings is largest. */
function sendsMost(m) {
  let best = 0,
    most = -1;
  for (let r = 0; r < m.rows; r++) {
    const sum = m.rowSum(r);
    if (sum > most) [best, most] = [r, sum];
  }
  return head.losses[best];
}

async function start() {
  const first = find("resid_pre", "grad_norm", head.layers[0], -1);
  state.begin(normalise, {layer: head.layers[0]});
  applyTheme();
  base = await matrix(first >= 0 ? first : selected());
  await load();
  pickers.begin();
  text.begin();
  map.begin();
  lag.begin();
  trust.begin();
  mountSummary();
  redraw();
  state.subscribe(onChange);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    onChange(new Set(["theme"])),
  );
  say(base);
  await Promise.all([heads.begin(), own.begin(), graph.begin(sendsMost(base))]);
  if (await loadStack()) redraw((p) => p.id === "lag" || p.id === "reach");
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  document.documentElement.classList.remove("js"); // the picture is still there
  console.error(error);
});
