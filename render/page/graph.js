/**
 * graph.js -- panel 8: the ways back of one loss. Positions across, layers up; edges by path.
 */
import {N, edges, find, head, matrix, rowOf} from "./data.js";
import {bundle, columns, prune, ways} from "./graph_layout.js";
import {drawInto, mount, onWidth, say} from "./panel.js";
import {state, update} from "./state.js";
import {DASH, drawing, el, html, line, text} from "./svg.js";
import {number, percent, quoted, short} from "./words.js";
import {record} from "./commands.js";

const body = document.getElementById("b-graph");
const L = head.layers.length;
let data = null; // of the loss shown: {loss, edges, values, levels, coverage}
let slider, output, list, note;

/** The loss that is shown while none is locked: the one whose gradient at other positions is largest. */
let usual = head.losses[head.losses.length - 1];

/** Put the panel together. */
export async function begin(most) {
  if (!head.edges) {
    document.getElementById("p-graph").hidden = true;
    return;
  }
  usual = most;
  slider = html("input", {
    type: "range",
    min: "5",
    max: "99",
    step: "1",
    value: String(Math.round(100 * state.keep)),
    id: "keep",
  });
  output = html("output", {});
  slider.addEventListener("input", () => update({keep: Number(slider.value) / 100}));
  note = html("p", {className: "note"});
  list = html("ol", {className: "ways"});
  body.append(
    html(
      "div",
      {className: "under"},
      html("label", {for: "keep"}, "keep "),
      slider,
      output,
      keys(),
    ),
    note,
  );
  body.append(html("h3", {textContent: "The heaviest ways from the loss to a token"}), list);
  mount({id: "graph", help: HELP, draw, svg, table, command});
  onWidth(body, draw);
  await load();
}

const HELP =
  "A node is position j before layer l; its gradient’s norm |g_ij| is the sum of what comes by " +
  "each path, share · |g|. The " +
  "flow starts as each token’s part of Σ|g_ij| at the embeddings; an edge into a node carries " +
  "|its value| / Σ|values| of the node’s " +
  "flow up. The slider keeps the heaviest edges, as few as carry that part along whole paths. " +
  "Skip, mlp and q stay on a position. " +
  (head.measured
    ? "Edges by k and v were measured, each by itself."
    : "What arrives by k and v is exact for each head and position; from which later position " +
      "it came is apportioned by " +
      "attention × |gradient at z|.");

function keys() {
  const box = html("ul", {className: "keys"});
  for (const [name, words] of [
    ["v", "value"],
    ["k", "key"],
    ["mlp", "MLP"],
    ["skip", "skip"],
    ["q", "query"],
  ]) {
    const swatch = el("svg", {
      viewBox: "0 0 26 10",
      width: 26,
      height: 10,
      "aria-hidden": "true",
      class: "path-" + name,
    });
    swatch.append(
      el("line", {
        x1: 1,
        x2: 25,
        y1: 5,
        y2: 5,
        "stroke-width": 2.5,
        stroke: "currentColor",
        "stroke-dasharray": DASH[name],
      }),
    );
    box.append(html("li", {}, swatch, words));
  }
  return box;
}

const lossShown = () => (state.loss === null ? usual : state.loss);

/** Unpack the shown loss; true if it is still wanted. */
export async function load() {
  const loss = lossShown(),
    row = rowOf(loss);
  if (!head.edges || (data && data.loss === loss)) return;
  const [list2, ...maps] = await Promise.all([
    edges(row),
    ...head.layers.map((l) => matrix(find("resid_pre", "grad_norm", l, -1))),
  ]);
  if (loss !== lossShown()) return;
  const values = maps.map((m) => Array.from({length: m.reach(row)}, (_, j) => m.value(row, j)));
  const final = find("resid_final", "grad_norm", -1, -1);
  const top = final >= 0 ? (await matrix(final)).value(row, loss) : null;
  const all = values[0].reduce((a, b) => a + b, 0) || 1;
  data = {
    loss,
    edges: list2,
    values,
    top,
    sources: Float64Array.from({length: N}, (_, j) => (values[0][j] || 0) / all),
  };
  data.most = prune(data.edges, data.sources, L, loss, 2).part;
  draw();
}

function draw() {
  if (!data) return;
  const had =
    document.activeElement &&
    body.contains(document.activeElement) &&
    document.activeElement.localName === "svg";
  drawInto("graph", svg);
  const node = body.querySelector(":scope > svg");
  listen(node);
  body.querySelector(".under").after(node);
  if (had) node.focus({preventScroll: true});
  const {part, kept} = keptNow();
  slider.value = String(Math.round(100 * state.keep));
  output.textContent = `${percent(part)} by ${kept.length} edges`;
  document.getElementById("t-graph").textContent =
    `loss ${data.loss}, ${quoted(data.loss + 1)}` +
    (state.loss === null ? " (sends most; lock another)" : "") +
    (head.measured ? "" : ", origins apportioned");
  note.textContent =
    data.most < state.keep
      ? `The edges in this page carry ${percent(data.most)} of this loss’s flow; the record has ` +
        `all.`
      : "";
  note.hidden = !note.textContent;
  list.replaceChildren(...ways(data.edges, data.sources, L, data.loss, 6).map(describe));
}

/* One tab stop: arrows move the locked source over the columns, Escape unlocks. */
function listen(node) {
  node.setAttribute("tabindex", "0");
  node.setAttribute("role", "application");
  node.setAttribute(
    "aria-label",
    node.getAttribute("aria-label") +
      ". Left and right move the locked source, up and down the loss.",
  );
  node.addEventListener("click", (e) => {
    const j = e.target.dataset && e.target.dataset.j;
    if (j !== undefined) update({source: state.source === Number(j) ? null : Number(j)});
  });
  node.addEventListener("keydown", (e) => {
    const j = state.source === null ? data.loss : state.source,
      row = rowOf(data.loss),
      up = {ArrowUp: -1, ArrowDown: 1}[e.key];
    const to = {ArrowLeft: j - 1, ArrowRight: j + 1, Home: 0, End: data.loss}[e.key];
    if (e.key === "Escape") update({loss: null, source: null});
    else if (to !== undefined)
      update({source: Math.max(0, Math.min(head.full ? head.N - 1 : data.loss, to))});
    else if (up && head.losses[row + up] !== undefined) update({loss: head.losses[row + up]});
    else return;
    if (to !== undefined)
      say(
        `position ${state.source}, ${quoted(state.source)}: ` +
          data.values
            .map((v, l) => `layer ${head.layers[l]} ${number(v[state.source] || 0)}`)
            .join(", "),
      );
    e.preventDefault();
  });
}

/* From the token up. */
function describe(way) {
  const steps = way.moves.map(
    (e) =>
      `by ${["k", "v"][e.path]} of layer ${head.layers[e.layer]}, head ${e.head}, to ` +
      `${quoted(e.from)} (${e.from})`,
  );
  return html(
    "li",
    {},
    `${percent(way.part)}: from ${quoted(way.source)} (${way.source}) ` +
      (steps.length ? steps.join(", then ") : "straight up"),
  );
}

function keptNow() {
  if (data.keptAt !== state.keep)
    data.kept = prune(data.edges, data.sources, L, data.loss, state.keep);
  data.keptAt = state.keep;
  return data.kept;
}

function svg(width, theme) {
  const {kept} = keptNow();
  const all = bundle(kept),
    cols = columns(
      data.loss,
      head.full ? N : data.loss + 1,
      all,
      width < 620 ? 14 : width < 1300 ? 36 : 60,
    );
  const left = 64,
    right = 14,
    top = 34,
    step = Math.max(46, Math.min(92, 460 / L)),
    gap0 = (width - 118) / Math.max(1, cols.length - 1),
    foot = gap0 < 44 ? 64 : 32;
  const height = top + L * step + foot,
    place = new Map(cols.map((j, k) => [j, k]));
  const gap = cols.length > 1 ? (width - left - right - 40) / (cols.length - 1) : 0;
  const x = (j) => left + 20 + place.get(j) * gap,
    y = (l) => top + (L - l) * step;
  const out = drawing(
    width,
    height,
    `Flow graph of loss ${data.loss}: positions across, layers up, ${kept.length} edges`,
  );
  for (let l = 0; l <= L; l++) {
    out.append(line(left, y(l), width - right, y(l), theme.rule));
    out.append(
      text(left - 8, y(l) + 4, l === L ? "final" : "layer " + head.layers[l], theme, {
        anchor: "end",
        size: 11.5,
      }),
    );
  }
  const shown = all.filter((b) => place.has(b.from) && place.has(b.to));
  shown.sort((a, b) => a.flow - b.flow);
  const most = Math.max(...shown.map((b) => b.flow), 1e-9);
  for (const b of shown)
    out.append(edgePath(b, x, y, Math.max(0.7, 9 * Math.sqrt(b.flow / most)), theme));
  nodes(out, cols, x, y, shown, theme);
  labels(out, cols, x, y(0), gap, theme);
  out.append(
    text(x(data.loss), top - 16, `loss ${data.loss}: ${short(data.loss + 1, 14)}`, theme, {
      anchor: place.get(data.loss) > cols.length / 2 ? "end" : "start",
      serif: true,
      fill: theme.lock,
      weight: 600,
      size: 13,
    }),
  );
  return out;
}

/* Own paths are bowed apart, k to the left of v. */
function edgePath(b, x, y, width, theme) {
  const x0 = x(b.from),
    y0 = y(b.layer + 1),
    x1 = x(b.to),
    y1 = y(b.layer),
    mid = (y0 + y1) / 2;
  const bow = b.from === b.to ? {skip: 0, mlp: 9, q: -9, k: -15, v: 15}[b.name] : 0;
  const d =
    b.from === b.to
      ? `M${x0} ${y0}C${x0 + bow} ${mid} ${x0 + bow} ${mid} ${x1} ${y1}`
      : `M${x0} ${y0}C${x0} ${mid} ${x1} ${mid} ${x1} ${y1}`;
  const heads =
    b.name === "mlp" || b.name === "skip"
      ? ""
      : " by heads " + b.heads.map(([h, p]) => `${h} (${percent(p)})`).join(", ");
  const node = el("path", {
    d,
    fill: "none",
    stroke: theme.path[b.name],
    "stroke-width": width.toFixed(2),
    "stroke-opacity": 0.72,
    "stroke-dasharray": DASH[b.name] === "none" ? null : DASH[b.name],
    "stroke-linecap": "butt",
  });
  node.append(
    el(
      "title",
      {},
      `${b.name}, layer ${head.layers[b.layer]}: ${quoted(b.from)} (${b.from}) → ` +
        `${quoted(b.to)} (${b.to}): ` +
        `${percent(b.flow)} of the flow, ${percent(b.p)} of what arrives below${heads}`,
    ),
  );
  return node;
}

function nodes(out, cols, x, y, shown, theme) {
  const touched = new Set(shown.flatMap((b) => [b.layer + 1 + "," + b.from, b.layer + "," + b.to]));
  for (let l = 0; l <= L; l++) {
    const most = l === L ? 1 : Math.max(...data.values[l], 1e-30);
    for (const j of cols) {
      if (l === L ? j !== data.loss : !touched.has(l + "," + j)) continue;
      const v = l === L ? data.top : data.values[l][j] || 0;
      const node = el("circle", {
        "data-j": j,
        class: "cell",
        cx: x(j),
        cy: y(l),
        r: l === L ? 5 : 2 + 4 * Math.sqrt(v / most),
        fill: j === state.source ? theme.lock : theme.ink,
        stroke: theme.panel,
        "stroke-width": 1,
      });
      node.append(
        el(
          "title",
          {},
          `${quoted(j)} (${j}), ${l === L ? "final norm" : "layer " + head.layers[l]}: |g| ` +
            `${v === null ? "not recorded" : number(v)}`,
        ),
      );
      out.append(node);
    }
  }
}

function labels(out, cols, x, base, gap, theme) {
  const slanted = gap < 44;
  for (const j of cols) {
    const at = x(j),
      strong = j === state.source;
    out.append(
      text(at + (slanted ? 4 : 0), base + 20, short(j, slanted ? 9 : 7), theme, {
        anchor: slanted ? "end" : "middle",
        serif: true,
        size: 12.5,
        fill: strong ? theme.lock : theme.ink,
        rotate: slanted ? -62 : null,
      }),
    );
  }
}

function table() {
  const {kept, part} = keptNow();
  return {
    caption:
      `The ${kept.length} heaviest edges of loss ${data.loss}; their paths carry ` +
      `${percent(part)} of the flow. From above, to below.`,
    head: [
      "layer",
      "path",
      "head",
      "from",
      "token",
      "to",
      "token",
      "part of what arrives there",
      "part of the flow",
    ],
    rows: kept.map((e) => [
      head.layers[e.layer],
      ["k", "v", "q", "mlp", "skip"][e.path],
      e.path > 2 ? "" : e.head,
      e.from,
      head.tokens[e.from],
      e.to,
      head.tokens[e.to],
      percent(e.p),
      percent(e.flow),
    ]),
  };
}

function command() {
  return `backflow graph ${record} --loss ${data.loss} --keep ${state.keep} -o graph.pdf`;
}
