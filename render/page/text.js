/**
 * text.js -- panel 2: the text itself, each token tinted by what it received from the locked loss,
 * or by what it gives back to the locked source, or by what it received from all.
 */
import {N, head} from "./data.js";
import {mount, onWidth, theme} from "./panel.js";
import {shown} from "./selection.js";
import {state, update} from "./state.js";
import {drawing, el, html, text as write} from "./svg.js";
import {number, place, quoted, scoreName, unit} from "./words.js";
import {siteOptions} from "./commands.js";

const body = document.getElementById("b-text");
const words = html("div", {className: "text", role: "group"});
const note = html("p", {className: "note"});
const key = html("p", {className: "note tints"});
const spans = [];
let focus = 0;

/** Put the panel together. */
export function begin() {
  for (let k = 0; k <= N; k++) {
    const span = html(
      "button",
      {type: "button", className: "tok", tabIndex: k ? -1 : 0},
      html("bdi", {}, head.tokens[k]),
    );
    span.addEventListener("click", () => lock(k));
    span.addEventListener("focus", () => roam(k, false));
    spans.push(span);
    if (head.breaks[k] === "s" && k) words.append(" ");
    words.append(span);
    if (head.breaks[k] === "n") words.append(html("br"));
  }
  words.addEventListener("keydown", onKey);
  const choose = html(
    "fieldset",
    {className: "choose"},
    html("legend", {textContent: "A click on a token locks"}),
  );
  for (const [value, label] of [
    ["loss", "the loss that predicts it"],
    ["source", "it as a source"],
  ]) {
    const radio = html("input", {
      type: "radio",
      name: "pick",
      value,
      checked: state.pick === value,
    });
    radio.addEventListener("change", () => update({pick: value}));
    choose.append(html("label", {}, radio, " " + label));
  }
  body.append(words, html("div", {className: "under"}, key, choose), note);
  onWidth(body, () => {});
  mount({id: "text", help: HELP, draw, svg, table, command});
}

const HELP =
  "With loss i locked, token j’s tint is the selected value at (i, j): what j received from " +
  "that loss. With only a " +
  "source j locked, the tint of token i+1 is the value at (i, j): what its loss gives back to " +
  "j. With nothing locked, it is " +
  "the sum of magnitudes at j over all later losses. Negative values are blue and underlined.";

function lock(k) {
  if (state.pick === "source" && k < N)
    update(state.source === k && state.loss === null ? {source: null} : {source: k, loss: null});
  else if (state.pick === "loss" && head.losses.includes(k - 1))
    update(
      state.loss === k - 1 && state.source === null ? {loss: null} : {loss: k - 1, source: null},
    );
}

/* One tab stop: the arrows move it, and the lock with it. */
function roam(k, locks) {
  spans[focus].tabIndex = -1;
  focus = Math.max(0, Math.min(N, k));
  spans[focus].tabIndex = 0;
  if (!locks) return;
  spans[focus].focus();
  if (state.pick === "source" && focus < N) update({source: focus, loss: null});
  else if (state.pick === "loss" && head.losses.includes(focus - 1))
    update({loss: focus - 1, source: null});
}

function onKey(e) {
  const to = {
    ArrowLeft: focus - 1,
    ArrowUp: focus - 1,
    ArrowRight: focus + 1,
    ArrowDown: focus + 1,
    Home: 0,
    End: N,
  }[e.key];
  if (e.key === "Escape") update({loss: null, source: null});
  else if (to !== undefined && !e.ctrlKey && !e.metaKey && !e.altKey) roam(to, true);
  else return;
  e.preventDefault();
}

/** What each token's tint says: [value, depth -1..1 or null, code words], k = 0..N. */
function tints() {
  const {m, range} = shown,
    list = new Array(N + 1).fill(null);
  const r = state.loss === null ? -1 : m.row(state.loss);
  const put = (k, row, j) => {
    const code = m.code(row, j);
    list[k] = {value: m.value(row, j), depth: code > 1 ? range.of(code) : 0, code: code & 0x7fff};
  };
  if (r >= 0) {
    for (let j = 0; j < m.reach(r); j++) put(j, r, j);
  } else if (state.source !== null) {
    for (let row = 0; row < m.rows; row++)
      if (state.source < m.reach(row))
        put(m.index[row] + (m.site === "attn" ? 0 : 1), row, state.source);
  } else {
    const sum = new Float64Array(N);
    for (let row = 0; row < m.rows; row++)
      for (let j = 0; j < m.reach(row); j++)
        if (j !== m.index[row]) sum[j] += Math.abs(m.value(row, j));
    const most = Math.max(...sum);
    const ranks = [...sum].sort((a, b) => a - b);
    const depth = (v) =>
      !(v > 0)
        ? 0
        : state.scale === "linear"
          ? v / most
          : state.scale === "rank"
            ? (ranks.indexOf(v) + 1) / N
            : Math.max(0.04, 1 + Math.log10(v / most) / 3);
    sum.forEach((v, j) => {
      list[j] = {value: v, depth: depth(v), code: v > 0 ? 2 : 0};
    });
  }
  return list;
}

function draw() {
  const list = tints();
  list.forEach((t, k) => {
    const span = spans[k],
      on = state.loss !== null && k === state.loss + 1;
    span.className =
      "tok" +
      (on ? " loss" : "") +
      (k === state.source ? " source" : "") +
      (t ? "" : " out") +
      (t && t.value < 0 ? " minus" : "");
    span.style.setProperty("--a", t ? Math.abs(t.depth).toFixed(3) : "0");
    span.title = title(t, k);
    span.setAttribute("aria-pressed", String(on || k === state.source));
  });
  if (state.loss !== null || state.source !== null)
    reveal(spans[state.loss === null ? state.source : state.loss + 1]);
  document.getElementById("t-text").textContent = heading();
  words.setAttribute("aria-label", "The text. Arrow keys move the lock from token to token.");
  note.textContent =
    "Tints: " +
    scoreName(shown.m.site, shown.m.score) +
    " at " +
    place(state) +
    ", " +
    unit(shown.m.site, shown.m.score) +
    (state.loss === null && state.source === null
      ? ", sums of magnitudes over later losses."
      : ".");
  legend(list);
}

/* Scroll the text, and not the page, to a token. */
function reveal(span) {
  const top = span.offsetTop - words.offsetTop,
    room = words.clientHeight;
  if (top < words.scrollTop || top + span.offsetHeight > words.scrollTop + room)
    words.scrollTop = top - room / 2;
}

function heading() {
  if (state.loss !== null)
    return `tinted by what each token received from loss ${state.loss}, ${quoted(state.loss + 1)}`;
  if (state.source !== null)
    return `tinted by what each token’s loss gives back to ${quoted(state.source)}`;
  return "tinted by what each token received from later losses";
}

function title(t, k) {
  const where = k < N ? "position " + k : "only predicted, never read";
  if (!t) return where + ": out of reach";
  return (
    where +
    ": " +
    (t.code === 0 ? "exactly 0" : t.code === 1 ? "under " + number(shown.m.low) : number(t.value))
  );
}

function legend(list) {
  const there = list
    .filter((t) => t && t.code > 1)
    .sort((a, b) => Math.abs(a.value) - Math.abs(b.value));
  const pick = [0, 0.25, 0.5, 0.75, 1]
    .map((q) => there[Math.round(q * (there.length - 1))])
    .filter(Boolean);
  const shownValues = [...new Map(pick.map((t) => [number(t.value), t])).values()];
  key.replaceChildren(
    "tint: ",
    ...shownValues.map((t) => {
      const span = html("span", {
        className: "tok" + (t.value < 0 ? " minus" : ""),
        textContent: number(t.value),
      });
      span.style.setProperty("--a", Math.abs(t.depth).toFixed(3));
      return span;
    }),
  );
}

/** A few widths of letters, to wrap by: near enough. */
function svg(width, colours) {
  const list = tints(),
    size = 16,
    lead = 30,
    measure = document.createElement("canvas").getContext("2d");
  measure.font = size + "px Georgia, serif";
  const parts = [];
  let x = 12,
    y = 44;
  for (let k = 0; k <= N; k++) {
    const w = measure.measureText(head.tokens[k]).width + 4;
    if (x + w > width - 12) [x, y] = [12, y + lead];
    else if (head.breaks[k] === "s" && k) x += 5;
    parts.push([k, x, y, w]);
    x += w;
    if (head.breaks[k] === "n") [x, y] = [12, y + lead];
  }
  const out = drawing(width, y + 20, heading());
  out.append(
    el("rect", {width, height: y + 20, fill: colours.ground}),
    write(12, 18, heading(), colours, {size: 12}),
  );
  for (const [k, px, py, w] of parts) {
    const t = list[k];
    if (t)
      out.append(
        el("rect", {
          x: px - 1,
          y: py - 17,
          width: w,
          height: 23,
          rx: 3,
          "fill-opacity": Math.abs(t.depth),
          fill: t.value < 0 ? "#78b0e8" : "#f09e28",
        }),
      );
    out.append(
      write(px + 1, py, "\u2068" + head.tokens[k] + "\u2069", colours, {
        size,
        serif: true,
        fill: t ? colours.ink : colours.soft,
      }),
    );
  }
  return out;
}

function table() {
  return {
    caption:
      heading() +
      ": " +
      scoreName(shown.m.site, shown.m.score) +
      ", " +
      unit(shown.m.site, shown.m.score) +
      ".",
    head: ["position", "token", "value"],
    rows: tints().map((t, k) => [
      k,
      head.tokens[k],
      !t
        ? "out of reach"
        : t.code === 0
          ? "exactly 0"
          : t.code === 1
            ? "under " + number(shown.m.low)
            : Number(t.value.toPrecision(4)),
    ]),
  };
}

function command() {
  const lockWords =
    state.loss !== null
      ? ` --loss ${state.loss}`
      : state.source !== null
        ? ` --source ${state.source}`
        : "";
  return `backflow figure strip ${siteOptions()}${lockWords} -o text.pdf`;
}
