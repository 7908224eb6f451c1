/**
 * map_draw.js -- the map on a canvas: a picture of one pixel a cell, made once for a selection and
 * scaled by the browser, and what stands over and around it.
 */
import {SERIF} from "./svg.js";
import {short} from "./words.js";
import {head} from "./data.js";

/** One pixel a cell. @returns {HTMLCanvasElement} */
export function picture(m, range, theme) {
  const canvas = document.createElement("canvas");
  canvas.width = head.N;
  canvas.height = m.rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(head.N, m.rows);
  const pixels = new Uint32Array(image.data.buffer),
    colours = range.pixels(theme);
  for (let r = 0; r < m.rows; r++) {
    const row = r * head.N,
      start = m.start[r],
      n = m.reach(r);
    for (let j = 0; j < n; j++) pixels[row + j] = colours[m.codes[start + j]];
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Sums of magnitudes of rows and of columns, the diagonal left out. */
export function marginals(m) {
  const given = new Float64Array(m.rows),
    received = new Float64Array(head.N);
  for (let r = 0; r < m.rows; r++)
    for (let j = 0; j < m.reach(r); j++) {
      if (j === m.index[r]) continue;
      const v = Math.abs(m.value(r, j));
      given[r] += v;
      received[j] += v;
    }
  return {given, received};
}

/**
 * Draw everything.
 * @param {CanvasRenderingContext2D} c  scaled to CSS pixels
 * @param {object} v  {m, picture, sums, g: Geometry, theme, row, col, hoverRow, hoverCol}
 */
export function paint(c, v) {
  const {g, theme} = v;
  c.clearRect(0, 0, g.width, g.height);
  c.save();
  c.beginPath();
  c.rect(g.left, g.top, g.plotW, g.plotH);
  c.clip();
  c.imageSmoothingEnabled = g.cellW < 1; // several cells a pixel: their mean
  c.drawImage(v.picture, g.atX(0), g.atY(0), g.k * g.plotW, g.k * g.plotH);
  if (g.cellW >= 5 && g.cellH >= 5) marks(c, v);
  bands(c, v);
  c.restore();
  frame(c, v);
  rowLabels(c, v);
  columnLabels(c, v);
  edges(c, v);
}

/* Exact zeros are hatched, values below the floor outlined, values below 0 marked by a dash. */
function marks(c, v) {
  const {g, m, theme} = v,
    s = g.visible();
  c.lineWidth = 1;
  for (let r = s.r0; r <= s.r1; r++)
    for (let j = s.j0; j <= Math.min(s.j1, m.reach(r) - 1); j++) {
      const code = m.code(r, j),
        x = g.atX(j),
        y = g.atY(r);
      if (code === 0) {
        c.strokeStyle = theme.zeroInk;
        c.beginPath();
        c.moveTo(x + 1, y + g.cellH - 1);
        c.lineTo(x + g.cellW - 1, y + 1);
        c.stroke();
      } else if ((code & 0x7fff) === 1) {
        c.strokeStyle = theme.zeroInk;
        c.strokeRect(x + 1.5, y + 1.5, g.cellW - 3, g.cellH - 3);
      } else if (code & 0x8000 && g.cellW >= 9) {
        c.strokeStyle = v.range.depth[code & 0x7fff] > 0.6 ? "#ffffff" : "#1b1b1a";
        c.beginPath();
        c.moveTo(x + g.cellW * 0.3, y + g.cellH / 2);
        c.lineTo(x + g.cellW * 0.7, y + g.cellH / 2);
        c.stroke();
      }
    }
}

function bands(c, v) {
  const {g, theme} = v;
  const outline = (row, col, colour, width) => {
    c.strokeStyle = colour;
    c.lineWidth = width;
    if (row >= 0) c.strokeRect(g.atX(0), g.atY(row) - 0.5, g.k * g.plotW, g.cellH + 1);
    if (col >= 0) c.strokeRect(g.atX(col) - 0.5, g.atY(0), g.cellW + 1, g.k * g.plotH);
  };
  outline(v.hoverRow, v.hoverCol, theme.soft, 1);
  outline(v.row, v.col, theme.lock, 1.5);
}

function frame(c, v) {
  const {g, theme} = v;
  c.strokeStyle = theme.rule;
  c.lineWidth = 1;
  c.strokeRect(g.left - 0.5, g.top - 0.5, g.plotW + 1, g.plotH + 1);
}

/* Every label, or every 2nd, 5th, 10th, ... so that they do not touch. */
function thin(cell, size) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];
  return steps.find((s) => s * cell >= size) || 5000;
}

function labelled(first, last, step, ...always) {
  const list = [];
  for (let k = Math.ceil(first / step) * step; k <= last; k += step)
    if (!always.some((a) => a >= 0 && a !== k && Math.abs(a - k) < step)) list.push(k);
  for (const a of always) if (a >= first && a <= last && !list.includes(a)) list.push(a);
  return list;
}

function rowLabels(c, v) {
  const {g, m, theme} = v,
    s = g.visible();
  const chars = g.left < 60 * g.by ? 6 : 11;
  c.textAlign = "right";
  c.textBaseline = "middle";
  for (const r of labelled(s.r0, s.r1, thin(g.cellH, 13 * g.by), v.row, v.hoverRow)) {
    const strong = r === v.row || r === v.hoverRow;
    const y = g.atY(r + 0.5);
    if (y < g.top || y > g.top + g.plotH) continue;
    c.font = (strong ? "600 " : "") + 12 * g.by + "px " + SERIF;
    c.fillStyle = r === v.row ? theme.lock : strong ? theme.ink : theme.soft;
    const k = m.site === "attn" ? m.index[r] : m.index[r] + 1;
    c.fillText("\u2068" + short(k, chars) + "\u2069", g.left - 6, y, g.left - 8);
  }
}

function columnLabels(c, v) {
  const {g, theme} = v,
    s = g.visible(),
    y = g.top + g.plotH + 8 + g.edge;
  c.textAlign = "right";
  c.textBaseline = "middle";
  for (const j of labelled(s.j0, s.j1, thin(g.cellW, 13 * g.by), v.col, v.hoverCol)) {
    const strong = j === v.col || j === v.hoverCol,
      x = g.atX(j + 0.5);
    if (x < g.left || x > g.left + g.plotW) continue;
    c.font = (strong ? "600 " : "") + 12 * g.by + "px " + SERIF;
    c.fillStyle = j === v.col ? theme.lock : strong ? theme.ink : theme.soft;
    c.save();
    c.translate(x, y + 4);
    c.rotate(-Math.PI / 2.6);
    c.fillText("\u2068" + short(j, 10) + "\u2069", 0, 0, g.bottom);
    c.restore();
  }
}

/* Right: what each loss sends to other positions; below: what each position receives from them. */
function edges(c, v) {
  const {g, sums, theme} = v,
    s = g.visible();
  const most = (list) => list.reduce((a, b) => Math.max(a, b), 0) || 1;
  const mostGiven = most(sums.given),
    mostReceived = most(sums.received);
  c.save();
  c.beginPath();
  c.rect(g.left, g.top, g.plotW + g.edge + 8, g.plotH + g.edge + 8);
  c.clip();
  for (let r = s.r0; r <= s.r1; r++) {
    c.fillStyle = r === v.row ? theme.lock : r === v.hoverRow ? theme.ink : theme.accent;
    const h = Math.max(1, g.cellH * 0.8);
    const y = Math.max(g.top, g.atY(r + 0.5) - h / 2),
      y1 = Math.min(g.top + g.plotH, g.atY(r + 0.5) + h / 2);
    if (y1 > y) c.fillRect(g.left + g.plotW + 5, y, (g.edge * sums.given[r]) / mostGiven, y1 - y);
  }
  for (let j = s.j0; j <= s.j1; j++) {
    c.fillStyle = j === v.col ? theme.lock : j === v.hoverCol ? theme.ink : theme.accent;
    const w = Math.max(1, g.cellW * 0.8);
    const x = Math.max(g.left, g.atX(j + 0.5) - w / 2),
      x1 = Math.min(g.left + g.plotW, g.atX(j + 0.5) + w / 2);
    if (x1 > x)
      c.fillRect(x, g.top + g.plotH + 5, x1 - x, (g.edge * sums.received[j]) / mostReceived);
  }
  c.restore();
}
