/**
 * pickers.js -- the bar above the panels: site, layer, head, score, scale; the lock in words; the
 * colour scheme.
 */
import {head} from "./data.js";
import {theme} from "./panel.js";
import {headsOf, layers, scores, sites} from "./selection.js";
import {state, update} from "./state.js";
import {quoted} from "./words.js";

const byId = (id) => document.getElementById(id);
const SCORES = {grad_norm: "norm |g|", grad_x_act: "signed ⟨g, a⟩", "": "weight"};

/** Put the bar together. */
export function begin() {
  for (const name of ["site", "layer", "head", "score", "scale"])
    byId("pick-" + name).addEventListener("change", (e) => {
      const value = e.target.value;
      update({[name]: name === "layer" || name === "head" ? Number(value) : value});
    });
  byId("unlock").addEventListener("click", () => update({loss: null, source: null}));
  byId("theme").addEventListener("click", () =>
    update({theme: theme().name === "dark" ? "light" : "dark"}),
  );
  draw();
}

function fill(name, options) {
  const select = byId("pick-" + name),
    now = JSON.stringify(options);
  if (select.dataset.options !== now) {
    select.dataset.options = now;
    select.replaceChildren(
      ...options.map(([value, words, off]) => {
        const option = document.createElement("option");
        option.value = value;
        option.textContent = words;
        option.disabled = Boolean(off);
        return option;
      }),
    );
  }
  select.value = String(state[name]);
  select.disabled = options.length < 2;
}

/* What did not fit into the page is named, and cannot be chosen. */
function missingHeads() {
  return head.missing.some((m) => m[0] === state.site && m[1] === state.score && m[2])
    ? [["", "each: in the record only", true]]
    : [];
}

/** Show the state. */
export function draw() {
  const gone = new Set(head.missing.map((m) => m[0]).filter((s) => !sites().includes(s)));
  fill("site", [
    ...sites().map((s) => [s, s]),
    ...[...gone].map((s) => ["", s + " (in the record only)", true]),
  ]);
  fill(
    "score",
    scores(state.site).map((s) => [s, SCORES[s] || s]),
  );
  fill("head", [
    ...headsOf(state.site, state.score).map((h) => [h, h < 0 ? "all" : String(h)]),
    ...missingHeads(),
  ]);
  fill(
    "layer",
    layers(state.site, state.score, state.head).map((l) => [l, l < 0 ? "–" : String(l)]),
  );
  fill("scale", [
    ["log", "log"],
    ["linear", "linear"],
    ["rank", "rank"],
  ]);
  const words = [];
  if (state.loss !== null) words.push(`loss ${state.loss} ${quoted(state.loss + 1)}`);
  if (state.source !== null) words.push(`source ${state.source} ${quoted(state.source)}`);
  byId("lock-words").textContent = words.length ? "locked: " + words.join(" → ") : "nothing locked";
  byId("unlock").hidden = !words.length;
  const dark = theme().name === "dark";
  byId("theme").textContent = dark ? "☀ light" : "☾ dark";
  byId("theme").setAttribute("aria-label", dark ? "light colours" : "dark colours");
}
