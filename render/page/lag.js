/**
 * lag.js -- panels 5 and 7: the selected flow against distance, a line a layer, and its reach,
 * layer against distance.
 */
import {N, head} from "./data.js";
import {frame, key} from "./axes.js";
import {Range} from "./colour.js";
import {drawInto, mount, onWidth} from "./panel.js";
import {stack} from "./selection.js";
import {state} from "./state.js";
import {el, drawing, hatch, line, path, text} from "./svg.js";
import {number, quoted, scoreName, unit} from "./words.js";
import {record} from "./commands.js";

let memo = {key: "", lags: []};

/** Put both panels together. */
export function begin() {
  for (const [id, help, make] of [
    ["lag", LAG, lagSvg],
    ["reach", REACH, reachSvg],
  ]) {
    const body = document.getElementById("b-" + id);
    const draw = () => {
      if (!stack || !stack.length) return;
      drawInto(id, make);
      document.getElementById("t-" + id).textContent =
        id === "lag" ? `mean over pairs, ${unitNow()}, ${of()}` : `layer against distance, ${of()}`;
    };
    mount({id, help, draw, svg: make, table: () => table(id), command: () => command(id)});
    onWidth(body, draw);
  }
}

const LAG =
  "Mean magnitude of the selected score over the pairs at distance i − j (with a loss or source " +
  "locked, over its own), " +
  "for every layer of the site. Both axes logarithmic. Dots at the left: distance 0, the loss’s " +
  "own position. Slope: least " +
  "squares of log value on log distance, every octave counting alike; a power law would be a " +
  "straight line.";
const REACH =
  "Mean magnitude at each distance, on a logarithmic scale of six decades under each layer’s " +
  "largest. Hatched: every " +
  "value at that distance is exactly 0, nothing arrives. Outlined: not 0, but under the scale. " +
  "Empty: no such pair.";

const unitNow = () => unit(state.site, state.score);
const of = () =>
  state.loss !== null
    ? `loss ${state.loss}, ${quoted(state.loss + 1)}`
    : state.source !== null
      ? `arriving at ${quoted(state.source)}`
      : "all losses";
const name = (layer) => (layer < 0 ? "final" : "layer " + layer);

/* Of every layer: sum, pairs, exact zeros and below-floor values at each distance. */
function lags() {
  const now = [state.site, state.score, state.head, state.loss, state.source, stack.length].join();
  if (memo.key !== now || memo.stack !== stack)
    memo = {key: now, stack, lags: stack.map(({layer, m}) => oneLayer(layer, m))};
  return memo.lags;
}

function oneLayer(layer, m) {
  const sum = new Float64Array(N),
    pairs = new Uint32Array(N),
    zeros = new Uint32Array(N),
    below = new Uint32Array(N);
  const only = state.loss !== null ? m.row(state.loss) : -1;
  for (let r = 0; r < m.rows; r++) {
    if (only >= 0 && r !== only) continue;
    const i = m.index[r],
      n = m.reach(r);
    for (let j = 0; j < n; j++) {
      if (only < 0 && state.source !== null && j !== state.source) continue;
      const code = m.codes[m.start[r] + j] & 0x7fff,
        d = Math.abs(i - j);
      pairs[d]++;
      sum[d] += m.table[code];
      if (code === 0) zeros[d]++;
      if (code === 1) below[d]++;
    }
  }
  const mean = Float64Array.from(sum, (s, d) => (pairs[d] ? s / pairs[d] : 0));
  return {layer, mean, pairs, zeros, below, low: m.low, top: m.top, slope: slope(mean)};
}

/* Weighted by 1/distance, so that every octave counts alike. */
function slope(mean) {
  let w = 0,
    sx = 0,
    sy = 0,
    n = 0;
  const points = [];
  for (let d = 1; d < N; d++) if (mean[d] > 0) points.push([Math.log(d), Math.log(mean[d]), 1 / d]);
  for (const [x, y, a] of points) {
    w += a;
    sx += a * x;
    sy += a * y;
    n++;
  }
  let xx = 0,
    xy = 0;
  for (const [x, y, a] of points) {
    xx += a * (x - sx / w) ** 2;
    xy += a * (x - sx / w) * (y - sy / w);
  }
  return n > 2 && xx > 0 ? xy / xx : NaN;
}

/* One colour a layer, from the sequential scale's middle part: dark below, light above. */
function shade(k, n, theme) {
  const hue = 215 - 170 * (n > 1 ? k / (n - 1) : 0),
    light = theme.name === "dark" ? 68 : 36;
  return `hsl(${hue.toFixed(0)} 62% ${light}%)`;
}

function lagSvg(width, theme) {
  const all = lags(),
    label = `Flow against distance, ${of()}`;
  const values = all.flatMap((l) => [...l.mean]).filter((v) => v > 0);
  if (!values.length) return nothing(width, theme, label, "Nothing arrives.");
  const last = Math.max(1, ...all.map((l) => l.mean.findLastIndex((v) => v > 0)));
  const from = Math.max(Math.min(...values), Math.max(...values) / 1e7),
    to = Math.max(...values);
  const items = all.map((l, k) => [
    `${name(l.layer)}${Number.isFinite(l.slope) ? ", slope " + number(Number(l.slope.toPrecision(2))) : ""}`,
    {stroke: shade(k, all.length, theme), "stroke-dasharray": dash(k)},
  ]);
  const names = key(items, theme, width),
    height = 240;
  const f = frame(
    {
      width,
      height,
      label,
      x: {from: 0.7, to: Math.max(2, last), kind: "log", name: "distance i − j, tokens"},
      y: {from: from / 1.2, to: to * 1.2, kind: "log", name: "mean, " + unitNow()},
    },
    theme,
  );
  all.forEach((l, k) => {
    const stroke = shade(k, all.length, theme),
      points = [];
    for (let d = 1; d < N; d++) points.push(l.mean[d] >= from ? [f.x(d), f.y(l.mean[d])] : null);
    f.svg.append(path(points, {stroke, "stroke-width": 1.8, "stroke-dasharray": dash(k)}));
    if (l.mean[0] >= from)
      f.svg.append(el("circle", {cx: f.x(0.74), cy: f.y(l.mean[0]), r: 3, fill: stroke}));
    if (N <= 40)
      for (const p of points)
        if (p) f.svg.append(el("circle", {cx: p[0], cy: p[1], r: 2, fill: stroke}));
  });
  if (f.x(1) - f.x(0.72) > 24)
    f.svg.append(text(f.x(0.72), f.plot.bottom + 17, "own", theme, {anchor: "middle", size: 11}));
  return below(f.svg, names, width, height);
}

const dash = (k) => ["none", "7 3", "2 3", "8 3 2 3"][k % 4];

function below(svg, names, width, height) {
  names.node.setAttribute("transform", `translate(0 ${height})`);
  svg.append(names.node);
  const full = height + names.height;
  svg.setAttribute("viewBox", `0 0 ${width} ${full}`);
  svg.setAttribute("height", full);
  return svg;
}

function nothing(width, theme, label, words) {
  const svg = drawing(width, 60, label);
  svg.append(text(12, 34, words, theme));
  return svg;
}

/* Distances in bins: single ones at first, then octaves cut in four. */
function bins() {
  const list = [];
  for (let from = 0; from < N; ) {
    const to = from < 8 ? from : Math.min(N - 1, from + Math.max(1, Math.floor(from / 4)) - 1);
    list.push([from, to]);
    from = to + 1;
  }
  return list;
}

function reachSvg(width, theme) {
  const all = [...lags()].reverse(),
    list = bins(),
    left = 62,
    top = 6,
    label = `Reach: layer against distance, ${of()}`;
  const cell = (width - left - 8) / list.length,
    high = Math.max(14, Math.min(26, 150 / all.length));
  const height = top + all.length * high + 42,
    svg = drawing(width, height, label),
    id = "reach-" + theme.name + width;
  const colours = new Range(
    {codes: [], table: new Float32Array(3), top: 1, low: 1e-6, signed: 0},
    "log",
  );
  svg.append(hatch(id, theme));
  all.forEach((l, k) => {
    const y = top + k * high,
      most = Math.max(...l.mean);
    svg.append(text(left - 8, y + high / 2 + 4, name(l.layer), theme, {anchor: "end", size: 11.5}));
    list.forEach(([from, to], b) => {
      const s = binned(l, from, to);
      if (!s.pairs) return;
      const x = left + b * cell,
        place = s.mean > 0 ? 1 + Math.log10(s.mean / most) / head.decades : 0;
      const zero = s.zeros === s.pairs,
        under = !zero && place <= 0;
      const rect = el("rect", {
        x: x + 0.5,
        y: y + 1,
        width: Math.max(0.5, cell - 1),
        height: high - 2,
        fill: zero ? `url(#${id})` : under ? theme.panel : colours.colour(place),
        stroke: under ? theme.zeroInk : "none",
      });
      rect.append(
        el(
          "title",
          {},
          `${name(l.layer)}, distance ${from}${to > from ? "–" + to : ""}: ${
            zero ? "exactly 0" : under ? "not 0, but under the scale" : number(s.mean)
          } (${s.pairs} pairs)`,
        ),
      );
      svg.append(rect);
    });
  });
  list.forEach(([from], b) => {
    const wide = cell >= 20 || [0, 1, 2, 4].includes(from) || (from >= 8 && b % 6 === 2);
    if (!wide || (cell < 12 && [1, 2].includes(from))) return;
    svg.append(
      line(left + (b + 0.5) * cell, height - 36, left + (b + 0.5) * cell, height - 32, theme.soft),
    );
    svg.append(
      text(left + (b + 0.5) * cell, height - 21, String(from), theme, {anchor: "middle", size: 11}),
    );
  });
  svg.append(
    text((left + width) / 2, height - 5, "distance i − j, tokens (0: own)", theme, {
      anchor: "middle",
      size: 11.5,
    }),
  );
  return svg;
}

function binned(l, from, to) {
  const s = {mean: 0, pairs: 0, zeros: 0, below: 0};
  for (let d = from; d <= to; d++) {
    s.mean += l.mean[d] * l.pairs[d];
    for (const k of ["pairs", "zeros", "below"]) s[k] += l[k][d];
  }
  if (s.pairs) s.mean /= s.pairs;
  return s;
}

function table(id) {
  const rows = [];
  for (const l of lags())
    for (const [from, to] of id === "lag" ? Array.from({length: N}, (_, d) => [d, d]) : bins()) {
      const s = binned(l, from, to);
      if (s.pairs)
        rows.push([
          name(l.layer),
          to > from ? `${from} to ${to}` : from,
          s.pairs,
          s.zeros,
          s.below,
          Number(s.mean.toPrecision(4)),
        ]);
    }
  return {
    caption:
      `Mean magnitude by distance: ${scoreName(state.site, state.score)} at every layer, ` +
      `${unitNow()}, ${of()}.`,
    head: ["layer", "distance", "pairs", "exactly 0", "under the floor", "mean"],
    rows,
  };
}

function command(id) {
  return (
    `backflow profile ${record} --parts ${id} --site ` +
    `${state.site}${state.score ? " --score " + state.score : ""} -o ${id}.pdf`
  );
}
