/**
 * own.js -- panel 6: of what arrives at each position, the part of its own loss, the sum over all
 * later ones, and the angle between the two.
 */
import {N, floats, head} from "./data.js";
import {frame, key} from "./axes.js";
import {drawInto, mount, onWidth} from "./panel.js";
import {state} from "./state.js";
import {el, line, path, text} from "./svg.js";
import {number} from "./words.js";
import {record} from "./commands.js";

let values = null;

/** Put the panel together. */
export async function begin() {
  if (!head.own) {
    document.getElementById("p-own").hidden = true;
    return;
  }
  values = await floats("own");
  const body = document.getElementById("b-own");
  mount({id: "own", help: HELP, draw, svg, table, command});
  onWidth(body, draw);
  draw();
}

const HELP =
  "own: |g_jj|. future: |Σ g_ij over i > j|, the norm of the vectors’ sum, as in ordinary " +
  "training. cosine: between " +
  "these two vectors. At resid_pre of the selected layer; for resid_final, where nothing comes " +
  "from later losses, there.";

const level = () => (state.layer < 0 ? head.own - 1 : Math.min(state.layer, head.own - 1));
const at = (what, j) => values[(what * head.own + level()) * N + j];
const where = () =>
  level() === head.own - 1 && state.layer < 0 ? "resid_final" : "resid_pre, layer " + level();
const unitNow = () => (head.target ? "units of the target" : "nats") + " per unit";

function draw() {
  if (!values) return;
  drawInto("own", svg);
  document.getElementById("t-own").textContent = `by position, ${where()}, ${unitNow()}`;
}

function svg(width, theme) {
  const list = [0, 1]
    .flatMap((w) => Array.from({length: N}, (_, j) => at(w, j)))
    .filter((v) => v > 0);
  const to = Math.max(...list, 1e-30),
    from = Math.max(Math.min(...list, to), to / 1e6);
  const names = key(
    [
      ["own", {stroke: theme.warm, "stroke-dasharray": "5 3"}],
      ["future (all later losses)", {stroke: theme.accent}],
      ["cosine", {stroke: theme.soft, "stroke-dasharray": "2 2"}],
    ],
    theme,
    width,
  );
  const f = frame(
    {
      width,
      height: 190,
      label: "Own and future gradient by position at " + where(),
      x: {from: 0, to: Math.max(1, N - 1), kind: "linear", whole: true, name: ""},
      y: {from: from / 1.3, to: to * 1.3, kind: "log", name: unitNow()},
    },
    theme,
  );
  const c = frame(
    {
      width,
      height: 120,
      label: "",
      x: {from: 0, to: Math.max(1, N - 1), kind: "linear", whole: true, name: "position j"},
      y: {from: -1, to: 1, kind: "linear", name: "cosine"},
    },
    theme,
  );
  const points = (w, fr, least) =>
    Array.from({length: N}, (_, j) => (at(w, j) > least ? [fr.x(j), fr.y(at(w, j))] : null));
  const dots = (list2, fill) => {
    for (const p of list2)
      if (p && N <= 60) f.svg.append(el("circle", {cx: p[0], cy: p[1], r: 2.2, fill}));
  };
  const own = points(0, f, from * 0.999),
    future = points(1, f, from * 0.999);
  f.svg.append(
    path(own, {stroke: theme.warm, "stroke-width": 1.6, "stroke-dasharray": "5 3"}),
    path(future, {stroke: theme.accent, "stroke-width": 1.8}),
  );
  dots(own, theme.warm);
  dots(future, theme.accent);
  mark(f, theme);
  const inner = el("g", {transform: "translate(0 180)"}, ...c.svg.childNodes);
  inner.append(line(c.plot.left, c.y(0), c.plot.right, c.y(0), theme.soft));
  const angle = Array.from({length: N}, (_, j) =>
    at(1, j) > 0 && at(0, j) > 0 ? [c.x(j), c.y(at(2, j))] : null,
  );
  inner.append(path(angle, {stroke: theme.soft, "stroke-width": 1.4, "stroke-dasharray": "2 2"}));
  for (const p of angle)
    if (p && N <= 60) inner.append(el("circle", {cx: p[0], cy: p[1], r: 2.2, fill: theme.soft}));
  f.svg.append(inner);
  names.node.setAttribute("transform", "translate(0 302)");
  f.svg.append(names.node);
  f.svg.setAttribute("viewBox", `0 0 ${width} ${304 + names.height}`);
  f.svg.setAttribute("height", 304 + names.height);
  return f.svg;
}

/* The locked loss stands at its own position, the locked source at its. */
function mark(f, theme) {
  for (const [j, words] of [
    [state.loss, "loss"],
    [state.source, "source"],
  ])
    if (j !== null) {
      f.svg.append(line(f.x(j), f.plot.top, f.x(j), f.plot.bottom, theme.lock, {dash: "1 2"}));
      f.svg.append(
        text(
          f.x(j) + (j > N * 0.8 ? -4 : 4),
          f.plot.top + (words === "loss" ? 10 : 22),
          words,
          theme,
          {size: 11, fill: theme.lock, anchor: j > N * 0.8 ? "end" : "start"},
        ),
      );
    }
}

function table() {
  return {
    caption: `Own and future by position at ${where()}, ${unitNow()}.`,
    head: ["position", "token", "own", "future", "cosine"],
    rows: Array.from({length: N}, (_, j) => [
      j,
      head.tokens[j],
      ...[0, 1, 2].map((w) => number(at(w, j))),
    ]),
  };
}

function command() {
  return (
    `backflow profile ${record} --parts ` +
    `position${state.layer < 0 ? "" : " --layer " + level()} -o own.pdf`
  );
}
