/**
 * data.js -- what the page holds: its head, and numbers unpacked when they are asked for.
 * render/report_pack.h defines the codes, render/report_data.h the elements.
 */

/** The head: names, axes, small tables. */
export const head = JSON.parse(document.getElementById("head").textContent);
export const N = head.N;

const CACHE_VALUES = 60e6;
const cache = new Map();

async function unpack(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = binary.charCodeAt(k);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function toWords(planes) {
  const n = planes.length / 2,
    words = new Uint16Array(n);
  for (let k = 0; k < n; k++) words[k] = planes[k] | (planes[n + k] << 8);
  return words;
}

function toFloats(planes) {
  const n = planes.length / 4,
    bytes = new Uint8Array(planes.length);
  for (let b = 0; b < 4; b++) for (let k = 0; k < n; k++) bytes[4 * k + b] = planes[b * n + k];
  return new Float32Array(bytes.buffer);
}

const element = (id) => document.getElementById(id).textContent;

/** Floats of an element. @returns {Promise<Float32Array>} */
export async function floats(id) {
  return toFloats(await unpack(element(id)));
}

/** Edges of a loss's row, heaviest first: p is the signed part of what arrives at the node below,
 * flow the part of all that reaches the tokens. */
export async function edges(row) {
  const [words, values] = element("e" + row).split(" ");
  const n = head.edges[row];
  const w = toWords(await unpack(words)),
    v = toFloats(await unpack(values));
  return Array.from({length: n}, (_, k) => ({
    layer: w[k],
    path: w[n + k],
    head: w[2 * n + k],
    from: w[3 * n + k],
    to: w[4 * n + k],
    p: v[k],
    flow: v[n + k],
  }));
}

export const PATHS = ["k", "v", "q", "mlp", "skip"];

/* ---- maps */

/** One site, score, layer and head: losses down, positions across. */
export class Matrix {
  constructor(entry, codes) {
    [this.site, this.score, this.layer, this.head, this.top, this.signed] = entry;
    this.codes = codes;
    /** Row r is loss (of attention: query) index[r]. */
    this.index = this.site === "attn" ? Array.from({length: N}, (_, k) => k) : head.losses;
    this.rows = this.index.length;
    this.start = new Uint32Array(this.rows + 1);
    for (let r = 0; r < this.rows; r++) this.start[r + 1] = this.start[r] + this.reach(r);
    this.low = this.top / 10 ** head.decades;
    const most = Math.round((head.decades * Math.LN10) / Math.log(head.step)) + 3;
    this.table = new Float32Array(most + 1);
    for (let c = 2; c <= most; c++) this.table[c] = this.low * head.step ** (c - 2);
  }

  /** Columns of row r that something can arrive at. */
  reach(r) {
    return head.full ? N : this.index[r] + 1;
  }

  code(r, j) {
    return j < this.reach(r) ? this.codes[this.start[r] + j] : 0;
  }

  /** 0 for exactly 0; below the floor ±0, too: ask code(). */
  value(r, j) {
    const c = this.code(r, j),
      v = this.table[c & 0x7fff];
    return c & 0x8000 ? -v : v;
  }

  /** The row of loss i, or -1. */
  row(i) {
    return this.index === head.losses ? rowOf(i) : i;
  }

  /** Sum of magnitudes of a row over other positions than its own; of all. */
  rowSum(r, own = false) {
    let sum = 0;
    for (let j = 0; j < this.reach(r); j++)
      if (own || j !== this.index[r]) sum += Math.abs(this.value(r, j));
    return sum;
  }
}

const rows = new Map(head.losses.map((i, r) => [i, r]));

/** The row of loss i in the record, or -1. */
export function rowOf(i) {
  return rows.has(i) ? rows.get(i) : -1;
}

/** Number of the map in head.matrices, or -1. */
export function find(site, score, layer, hd) {
  return head.matrices.findIndex(
    (m) => m[0] === site && m[1] === score && m[2] === layer && m[3] === hd,
  );
}

/** @returns {Promise<Matrix>} */
export function matrix(id) {
  if (!cache.has(id)) {
    let room = CACHE_VALUES / ((N * N) / 2) - 1;
    for (const key of [...cache.keys()].reverse()) if (room-- < 1) cache.delete(key);
  } else {
    const kept = cache.get(id);
    cache.delete(id);
    cache.set(id, kept);
    return kept;
  }
  const made = unpack(element("m" + id)).then((b) => new Matrix(head.matrices[id], toWords(b)));
  cache.set(id, made);
  return made;
}

/** The layers of a site, as far as the page holds that head of it: [[layer, id], ...]. */
export function layersOf(site, score, hd) {
  return head.matrices
    .map((m, id) => [m[2], id, m])
    .filter(([, , m]) => m[0] === site && m[1] === score && m[3] === hd)
    .map(([layer, id]) => [layer, id]);
}
