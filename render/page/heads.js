/**
 * heads.js -- panel 4: by which heads, MLPs and skip connections the flow to earlier positions
 * comes; of all pairs, or of the locked loss or source. A click shows that head on the map.
 */
import {N, head, find, floats, rowOf} from "./data.js";
import {drawInto, mount, onWidth, say, theme} from "./panel.js";
import {headsOf} from "./selection.js";
import {state, update} from "./state.js";
import {drawing, el, text} from "./svg.js";
import {number, percent, quoted} from "./words.js";
import {record} from "./commands.js";

const H = head.heads || 0,
  L = head.layers.length,
  COLUMNS = 3 * H + 3;
const body = document.getElementById("b-heads");
let carry = null,
  focus = {l: L - 1, c: 0};

/** Put the panel together. */
export async function begin() {
  if (!H) {
    document.getElementById("p-heads").hidden = true;
    return;
  }
  carry = {loss: await floats("carry_loss"), source: await floats("carry_source")};
  mount({id: "heads", help: HELP, draw, svg, table, command});
  onWidth(body, draw);
  draw();
}

const HELP =
  "What arrives at resid_pre of layer l, g, is the sum of what comes by each path p; its part " +
  "is ⟨g_p, g⟩ / ⟨g, g⟩ times " +
  "|g|, summed over pairs of a loss and another position. A head’s part is that by its query, " +
  "key and value. Each row adds " +
  "up to 100 %; a part that works against the others is negative. skip: past attention and MLP.";

/* Sums of one layer: by head [q, k, v], mlp, skip, and all, for what is locked. */
function sums(l) {
  const by =
    state.loss !== null
      ? [carry.loss, head.losses.length, rowOf(state.loss)]
      : state.source !== null
        ? [carry.source, N, state.source]
        : null;
  const column = (c) => {
    const at = l * COLUMNS + c;
    if (by) return by[0][at * by[1] + by[2]];
    let sum = 0;
    for (let r = 0; r < head.losses.length; r++) sum += carry.loss[at * head.losses.length + r];
    return sum;
  };
  const all = column(3 * H + 2);
  const part = (c) => (all > 0 ? column(c) / all : 0);
  return {
    all,
    mlp: part(3 * H),
    skip: part(3 * H + 1),
    heads: Array.from({length: H}, (_, h) => ({q: part(h), k: part(H + h), v: part(2 * H + h)})),
  };
}

const whole = (p) => p.q + p.k + p.v;
const cells = (s) => [...s.heads.map(whole), s.mlp, s.skip];
const name = (c) => (c < H ? "head " + c : c === H ? "mlp" : "skip");
const of = () =>
  state.loss !== null
    ? `loss ${state.loss}, ${quoted(state.loss + 1)}`
    : state.source !== null
      ? `what arrives at ${quoted(state.source)}`
      : "all losses";

function svg(width, colours) {
  const n = H + 2,
    left = 62,
    gap = 8,
    cell = Math.min(104, Math.max(18, (width - left - gap - 4) / n));
  const high = Math.min(34, Math.max(20, cell)),
    top = 34,
    height = top + L * high + 8;
  const out = drawing(
    width,
    height,
    `Layers by heads: part of the flow to other positions, ${of()}`,
  );
  const size = cell > 36 ? 11 : 9.5;
  const at = (c) => left + c * cell + (c >= H ? gap : 0);
  for (let c = 0; c < n; c++)
    if (cell >= 24 || c >= H || c % 4 === 0)
      out.append(
        text(
          at(c) + cell / 2,
          top - 8,
          c < H ? (c === 0 ? "head 0" : String(c)) : name(c),
          colours,
          {anchor: "middle", size: 11},
        ),
      );
  for (let k = 0; k < L; k++) {
    const l = L - 1 - k,
      s = sums(l),
      y = top + k * high;
    out.append(
      text(left - 8, y + high / 2 + 4, "layer " + head.layers[l], colours, {
        anchor: "end",
        size: 11.5,
      }),
    );
    cells(s).forEach((part, c) =>
      out.append(draw1(part, c, l, at(c), y, cell, high, size, colours, s.all)),
    );
  }
  return out;
}

/* A part as a tint: amber for what adds to the flow, blue for what works against it. */
function draw1(part, c, l, x, y, cell, high, size, colours, all) {
  const depth = Math.min(1, Math.sqrt(Math.abs(part)) * 1.15),
    dark = colours.name === "dark";
  const chosen = head.layers[l] === state.layer && c === state.head;
  const group = el("g", {class: "cell", "data-l": l, "data-c": c});
  group.append(
    el("rect", {x: x + 1, y: y + 1, width: cell - 2, height: high - 2, rx: 2, fill: colours.zero}),
  );
  group.append(
    el("rect", {
      x: x + 1,
      y: y + 1,
      width: cell - 2,
      height: high - 2,
      rx: 2,
      "fill-opacity": depth.toFixed(3),
      fill: part < 0 ? (dark ? "#1d5fa0" : "#78b0e8") : dark ? "#9e5208" : "#f09e28",
    }),
  );
  if (chosen || (focus.l === l && focus.c === c && body.contains(document.activeElement)))
    group.append(
      el("rect", {
        x: x + 1,
        y: y + 1,
        width: cell - 2,
        height: high - 2,
        rx: 2,
        fill: "none",
        stroke: chosen ? colours.lock : colours.ink,
        "stroke-width": 2,
      }),
    );
  if (cell >= 30)
    group.append(
      text(x + cell / 2, y + high / 2 + 4, all > 0 ? brief(part) : "–", colours, {
        anchor: "middle",
        size,
        fill: colours.ink,
      }),
    );
  group.append(el("title", {}, said(l, c, part)));
  return group;
}

const brief = (p) =>
  Math.abs(p) < 0.0005
    ? "0"
    : (p < 0 ? "−" : "") + (100 * Math.abs(p)).toFixed(Math.abs(p) < 0.0995 ? 1 : 0);

function said(l, c, part) {
  const s = sums(l),
    by =
      c < H
        ? ` (by q ${percent(s.heads[c].q)}, k ${percent(s.heads[c].k)}, v ${percent(s.heads[c].v)})`
        : "";
  return `layer ${head.layers[l]}, ${name(c)}: ${percent(part)}${by}`;
}

function draw() {
  if (!carry) return;
  const had = body.contains(document.activeElement);
  drawInto("heads", svg);
  const node = body.querySelector("svg");
  node.setAttribute("tabindex", "0");
  node.setAttribute("role", "application");
  node.setAttribute(
    "aria-label",
    node.getAttribute("aria-label") + ". Arrow keys move, Enter shows a head on the map.",
  );
  node.addEventListener("click", (e) => {
    const cell = e.target.closest(".cell");
    if (cell) choose(Number(cell.dataset.l), Number(cell.dataset.c));
  });
  node.addEventListener("keydown", onKey);
  if (had) node.focus({preventScroll: true});
  document.getElementById("t-heads").textContent =
    `part of the flow to other positions, ${of()}, % of a layer`;
}

/* A head of the values, where they stand for several query heads the one they share. */
function choose(l, c) {
  focus = {l, c};
  const layer = head.layers[l];
  if (c >= H)
    update({
      site: c === H && find("mlp_out", "grad_norm", layer, -1) >= 0 ? "mlp_out" : "resid_pre",
      score: "grad_norm",
      layer,
      head: -1,
    });
  else {
    const there = headsOf("v", "grad_norm").filter((h) => h >= 0).length || 1;
    if (find("z", "grad_norm", layer, c) >= 0)
      update({site: "z", score: "grad_norm", layer, head: c});
    else
      update({
        site: "v",
        score: "grad_norm",
        layer,
        head: there > 1 ? Math.floor((c * there) / H) : -1,
      });
  }
  draw();
}

function onKey(e) {
  const {l, c} = focus;
  const to = {
    ArrowUp: [l + 1, c],
    ArrowDown: [l - 1, c],
    ArrowLeft: [l, c - 1],
    ArrowRight: [l, c + 1],
    Home: [l, 0],
    End: [l, H + 1],
  }[e.key];
  if (e.key === "Enter" || e.key === " ") choose(l, c);
  else if (e.key === "Escape") update({loss: null, source: null});
  else if (to) {
    focus = {l: Math.max(0, Math.min(L - 1, to[0])), c: Math.max(0, Math.min(H + 1, to[1]))};
    draw();
    say(said(focus.l, focus.c, cells(sums(focus.l))[focus.c]));
  } else return;
  e.preventDefault();
}

function table() {
  const rows = [];
  for (let l = L - 1; l >= 0; l--) {
    const s = sums(l);
    s.heads.forEach((p, h) =>
      rows.push([head.layers[l], "head " + h, ...[p.q, p.k, p.v, whole(p)].map(percent)]),
    );
    rows.push(
      [head.layers[l], "mlp", "", "", "", percent(s.mlp)],
      [head.layers[l], "skip", "", "", "", percent(s.skip)],
      [
        head.layers[l],
        "all, " + (head.target ? "units" : "nats") + " per unit",
        "",
        "",
        "",
        number(s.all),
      ],
    );
  }
  return {
    caption: `Part of the flow to other positions, of each layer’s, ${of()}.`,
    head: ["layer", "by", "q", "k", "v", "part"],
    rows,
  };
}

function command() {
  const row = state.loss === null ? "" : `[:, :, ${rowOf(state.loss)}]`;
  return (
    `python3 -c "from safetensors.numpy import load_file; r = load_file('${record}'); g = ` +
    `r['flow.resid_pre.grad_norm']; ` +
    `print({n: (r['share.' + n]${row} * (g[:, None] if r['share.' + n].ndim == 4 else ` +
    `g)${row}).sum((-1, -2)) for n in ('q', 'k', 'v', 'mlp', 'skip')})"`
  );
}
