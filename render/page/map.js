/**
 * map.js -- panel 3: one site, layer, head and score as losses down by positions across.
 */
import {zoom, zoomIdentity} from "d3-zoom";
import {event, select} from "d3-selection";
import {head} from "./data.js";
import {Geometry} from "./map_geometry.js";
import {marginals, paint, picture} from "./map_draw.js";
import {legend} from "./map_legend.js";
import {mapSvg} from "./map_svg.js";
import {enlarged, mount, onWidth, say, theme} from "./panel.js";
import {shown} from "./selection.js";
import {state, update} from "./state.js";
import {html} from "./svg.js";
import {number, percent, place, quoted, scoreName, unit} from "./words.js";
import {siteOptions} from "./commands.js";

const body = document.getElementById("b-map");
const canvas = html("canvas", {
  tabIndex: 0,
  role: "application",
  "aria-roledescription": "map",
  "aria-label":
    "Map of losses by positions. Arrow keys move the lock, Home and End go to a row’s ends, " +
    "plus and minus zoom, 0 shows all, Escape unlocks.",
});
const readout = html("p", {className: "readout"});
const corner = html("div", {className: "corner"});
const buttons = html("div", {className: "zoom"});
const box = html("div", {className: "mapbox"}, canvas, corner);

let geometry = null,
  made = null,
  sums = null,
  key = "",
  hover = {r: -1, j: -1},
  waiting = false;

const behaviour = zoom()
  .scaleExtent([1, Math.max(8, head.N / 8)])
  .filter(wanted)
  .on("zoom", () => {
    geometry.zoom(currentTransform());
    corner.classList.toggle("solid", geometry.k > 1.01);
    canvas.style.touchAction = geometry.k > 1.01 ? "none" : "pan-x pan-y";
    paintSoon();
  });

/* The wheel scrolls the page, unless the map has the focus or Ctrl is held; one finger scrolls it
 * as long as all of the map is in sight. */
function wanted() {
  const e = event;
  if (e.type === "wheel") return e.ctrlKey || e.metaKey || document.activeElement === canvas;
  if (e.type.startsWith("touch")) return e.touches.length > 1 || geometry.k > 1.01;
  return !e.button && !e.ctrlKey;
}

const currentTransform = () => canvas.__zoom || zoomIdentity;

/** Put the panel together. */
export function begin() {
  const hint = html(
    "p",
    {className: "hint"},
    "Click a cell to lock its loss and source, a label to lock a row or column. Ctrl and the " +
      "wheel, or + and −, zoom.",
  );
  body.append(readout, box, hint);
  select(canvas).call(behaviour).on("dblclick.zoom", null);
  canvas.style.touchAction = "pan-x pan-y";
  for (const [label, title, act] of [
    ["+", "zoom in", () => scale(1.6)],
    ["−", "zoom out", () => scale(1 / 1.6)],
    ["all", "show all of the map", () => scale(0)],
  ]) {
    const button = html("button", {type: "button", textContent: label, title, "aria-label": title});
    button.addEventListener("click", act);
    buttons.append(button);
  }
  canvas.addEventListener("mousemove", (e) => hoverAt(e.offsetX, e.offsetY));
  canvas.addEventListener("mouseleave", () => setHover({r: -1, j: -1}));
  canvas.addEventListener("click", (e) => lockAt(e.offsetX, e.offsetY));
  canvas.addEventListener("keydown", onKey);
  onWidth(body, draw);
  mount({id: "map", help: HELP, draw, svg: (w, t) => mapSvg(w, t, sums), table, csv, command});
}

const HELP =
  "Row i: loss i, −log p(token i+1 | tokens 0 … i), named by the token it predicts. Column j: " +
  "position j, " +
  "named by the token it reads. A cell is |g| (norm) or ⟨g, a⟩ (signed), g = ∂loss i / ∂a at j. " +
  "The upper half is " +
  "empty: a loss cannot reach a later position. Bars: sums of magnitudes over other positions " +
  "than the loss’s own. " +
  "Values in this page are rounded to within 0.5 %; the record has every digit.";

function scale(by) {
  if (by) behaviour.scaleBy(select(canvas), by);
  else behaviour.transform(select(canvas), zoomIdentity);
}

/** Draw all again. */
export function draw() {
  if (!shown) return;
  const {m, range, id} = shown,
    now = [id, state.scale, theme().name].join();
  if (key !== now) {
    made = picture(m, range, theme());
    sums = marginals(m);
    key = now;
  }
  const width = body.clientWidth;
  geometry = new Geometry(width, m.rows, head.N, enlarged());
  geometry.zoom(currentTransform());
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(geometry.height * ratio);
  canvas.style.width = width + "px";
  canvas.style.height = geometry.height + "px";
  box.classList.toggle("narrow", width < 520);
  box.style.setProperty("--corner", Math.round(geometry.plotW * 0.46) + "px");
  box.style.setProperty("--edge", geometry.edge + 18 + "px");
  const plot = [
    [geometry.left, geometry.top],
    [geometry.left + geometry.plotW, geometry.top + geometry.plotH],
  ];
  behaviour.extent(plot).translateExtent(plot);
  document.getElementById("t-map").textContent =
    scoreName(m.site, m.score) + " at " + place(state) + ", " + unit(m.site, m.score);
  corner.replaceChildren(...legend(m, range, theme()), buttons);
  describe();
  paintNow();
}

function paintSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    paintNow();
  });
}

function paintNow() {
  const c = canvas.getContext("2d"),
    ratio = window.devicePixelRatio || 1,
    {m, range} = shown;
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  paint(c, {
    m,
    range,
    picture: made,
    sums,
    g: geometry,
    theme: theme(),
    hoverRow: hover.r,
    hoverCol: hover.j,
    row: state.loss === null ? -1 : m.row(state.loss),
    col: state.source === null ? -1 : state.source,
  });
}

function setHover(to) {
  if (to.r === hover.r && to.j === hover.j) return;
  hover = to;
  describe();
  paintSoon();
}

function hoverAt(x, y) {
  const at = geometry.cell(x, y);
  canvas.style.cursor = at.r >= 0 || at.j >= 0 ? "crosshair" : "default";
  setHover(at);
}

function lockAt(x, y) {
  const at = geometry.cell(x, y);
  if (at.r < 0 && at.j < 0) return;
  const loss = at.r >= 0 ? shown.m.index[at.r] : null,
    source = at.j >= 0 ? at.j : null;
  if (loss !== null && source !== null && source >= shown.m.reach(at.r)) return; // the empty half
  const same = loss === state.loss && source === state.source;
  update(same ? {loss: null, source: null} : {loss, source});
}

/* One tab stop; the lock moves over rows and columns that exist. */
function onKey(e) {
  const {m} = shown,
    rows = m.index;
  const r = state.loss === null ? rows.length - 1 : Math.max(0, m.row(state.loss));
  const j = state.source === null ? Math.min(rows[r], head.N - 1) : state.source;
  const to = {
    ArrowUp: [r - 1, j],
    ArrowDown: [r + 1, j],
    ArrowLeft: [r, j - 1],
    ArrowRight: [r, j + 1],
    Home: [r, 0],
    End: [r, m.reach(r) - 1],
  }[e.key];
  const zooms = {"+": 1.6, "=": 1.6, "-": 1 / 1.6, 0: 0};
  if (e.key in zooms && !e.ctrlKey && !e.metaKey) scale(zooms[e.key]);
  else if (e.key === "Escape") update({loss: null, source: null});
  else if (to && !e.ctrlKey && !e.metaKey && !e.altKey) {
    const row = Math.max(0, Math.min(rows.length - 1, to[0]));
    const col = Math.max(0, Math.min(m.reach(row) - 1, to[1]));
    update({loss: rows[row], source: col});
    say(words(row, col));
  } else return;
  e.preventDefault();
}

/* "loss of “Lily” (12) → “named” (9), 3 back: 0.31 nats per unit, 12 % of what this loss sends " +
  "..." */
function words(r, j) {
  const {m} = shown,
    i = m.index[r];
  const from =
    m.site === "attn" ? `query ${quoted(i)} (${i})` : `loss ${i}, which predicts ${quoted(i + 1)}`;
  if (j < 0) return `${from}: ${number(sums.given[r])} to other positions in all`;
  const to = ` → ${quoted(j)} (${j}), ${i === j ? "its own position" : i > j ? `${i - j} back` : `${j - i} ahead`}: `;
  if (j >= m.reach(r)) return from + to + "nothing, by causality";
  const code = m.code(r, j);
  if (code === 0) return from + to + "exactly 0";
  if ((code & 0x7fff) === 1) return from + to + `not 0, but under ${number(m.low)}`;
  const v = m.value(r, j),
    sum = sums.given[r];
  const part =
    i !== j && sum > 0
      ? `, ${percent(Math.abs(v) / sum)} of its row’s sum over other positions`
      : "";
  return from + to + number(v) + " " + unit(m.site, m.score) + part;
}

function describe() {
  const {m} = shown;
  if (hover.r >= 0) readout.textContent = words(hover.r, hover.j);
  else if (hover.j >= 0)
    readout.textContent =
      `position ${hover.j}, ${quoted(hover.j)}: ` +
      `${number(sums.received[hover.j])} from other positions’ losses in all`;
  else if (state.loss !== null && m.row(state.loss) >= 0)
    readout.textContent =
      "Locked: " + words(m.row(state.loss), state.source === null ? -1 : state.source);
  else readout.textContent = "Nothing locked. Point at a cell to read it.";
}

/* ---- table, command */

function pairs() {
  const {m} = shown,
    list = [];
  for (let r = 0; r < m.rows; r++) {
    if (state.loss !== null && m.row(state.loss) !== r) continue;
    for (let j = 0; j < m.reach(r); j++)
      if (state.source === null || state.loss !== null || state.source === j) list.push([r, j]);
  }
  return list;
}

const label = (r, j) => [
  shown.m.index[r],
  head.tokens[shown.m.site === "attn" ? shown.m.index[r] : shown.m.index[r] + 1],
  j,
  head.tokens[j],
];

function said(r, j) {
  const code = shown.m.code(r, j) & 0x7fff;
  return code === 0
    ? "exactly 0"
    : code === 1
      ? "under " + number(shown.m.low)
      : number(shown.m.value(r, j));
}

const HEAD = ["loss", "predicts", "position", "token"];

function table() {
  const {m} = shown;
  const list = pairs().filter(([r, j]) => state.loss !== null || j !== m.index[r]);
  list.sort((a, b) => Math.abs(m.value(...b)) - Math.abs(m.value(...a)));
  const which =
    state.loss !== null
      ? `Loss ${state.loss} at every position it reaches`
      : state.source !== null
        ? `Every loss at position ${state.source}`
        : "The largest at other positions than the loss’s own";
  return {
    caption:
      `${which}: ${scoreName(m.site, m.score)}, ${unit(m.site, m.score)}, at ` + `${place(state)}.`,
    head: [...HEAD, "value"],
    rows: list.slice(0, 400).map(([r, j]) => [...label(r, j), said(r, j)]),
  };
}

function csv() {
  return {
    head: [...HEAD, "value"],
    rows: pairs().map(([r, j]) => {
      const code = shown.m.code(r, j) & 0x7fff;
      return [
        ...label(r, j),
        code === 1 ? "below " + shown.m.low : Number(shown.m.value(r, j).toPrecision(4)),
      ];
    }),
  };
}

function command() {
  return `backflow heatmap ${siteOptions()} -o map.pdf`;
}
