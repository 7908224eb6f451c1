/**
 * colour.js -- from a map's codes to places between 0 and 1, and to colours.
 */
import {head} from "./data.js";

function stops(hex) {
  return Array.from({length: 256}, (_, k) => parseInt(hex.slice(6 * k, 6 * k + 6), 16));
}

const PALETTE = {false: stops(head.cividis), true: stops(head.vik)};
const SIGNED_DECADES = 3;

/** How a map's values are placed on its scale. */
export class Range {
  /** @param {import("./data.js").Matrix} m  @param {string} kind "log", "linear", "rank" */
  constructor(m, kind) {
    this.kind = kind;
    this.signed = Boolean(m.signed);
    this.top = m.top;
    const count = new Uint32Array(m.table.length);
    for (const c of m.codes) count[c & 0x7fff]++;
    this.zeros = count[0];
    this.belows = count[1];
    const least = count.findIndex((n, c) => c > 1 && n > 0);
    /** The least magnitude with a place of its own. */
    this.low = this.belows || least < 0 ? m.low : m.table[least];
    if (this.signed && kind === "log") this.low = this.top / 10 ** SIGNED_DECADES;
    this.depth = new Float32Array(m.table.length); // of magnitudes, by code
    let seen = 0;
    const all = m.codes.length - this.zeros - this.belows;
    for (let c = 2; c < m.table.length; c++) {
      this.depth[c] =
        kind === "rank" ? (seen + count[c] / 2) / Math.max(all, 1) : this.magnitude(m.table[c]);
      seen += count[c];
    }
  }

  /** The place of a magnitude, 0 to 1, on a scale that is no rank. */
  magnitude(v) {
    if (!(this.top > 0)) return 0;
    if (this.kind !== "log") return Math.min(1, v / this.top);
    if (this.signed) return Math.min(1, Math.log1p(v / this.low) / Math.log1p(this.top / this.low));
    if (this.top <= this.low) return 1;
    return Math.min(1, Math.max(0, Math.log(v / this.low) / Math.log(this.top / this.low)));
  }

  /** The depth of a code, 0 to 1, negative for values below 0. */
  of(code) {
    const d = this.depth[code & 0x7fff];
    return code & 0x8000 ? -d : d;
  }

  /** "#rrggbb" of a place, 0 to 1 or, signed, -1 to 1. */
  colour(place) {
    return "#" + this.rgb(place).toString(16).padStart(6, "0");
  }

  rgb(place) {
    const x = this.signed ? (1 + place) / 2 : place;
    return PALETTE[this.signed][Math.round(255 * Math.min(1, Math.max(0, x)))];
  }

  /** Colours of all codes as the bytes of a picture's pixels (little-endian RGBA). */
  pixels(theme) {
    const n = this.depth.length,
      table = new Uint32Array(0x8000 + n);
    const abgr = (rgb) => 0xff000000 | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16);
    const hex = (s) => abgr(parseInt(s.slice(1), 16));
    for (let c = 2; c < n; c++) {
      table[c] = abgr(this.rgb(this.depth[c]));
      table[0x8000 | c] = abgr(this.rgb(-this.depth[c]));
    }
    table[0] = table[0x8000] = hex(theme.zero);
    table[1] = table[0x8001] = hex(theme.below);
    return table;
  }

  /** Values to label on a colour bar, with their places. */
  ticks() {
    if (this.kind === "rank")
      return [
        [0, "lowest"],
        [0.5, "median"],
        [1, "highest"],
      ];
    if (this.kind === "linear") return [0, 0.5, 1].map((x) => [x, x * this.top]);
    const marks = [[1, this.top]];
    if (this.signed)
      return [
        [0, 0],
        [this.magnitude(this.top / 30), this.top / 30],
        [1, this.top],
      ];
    const from = Math.ceil(Math.log10(this.low) - 1e-9),
      to = Math.floor(Math.log10(this.top) + 1e-9);
    const step = Math.max(1, Math.ceil((to - from + 1) / 4));
    for (let e = to; e >= from; e -= step) {
      const at = this.magnitude(10 ** e);
      if (at < 0.86) marks.unshift([at, 10 ** e]);
    }
    if (marks.length === 1) marks.unshift([0, this.low]);
    return marks;
  }
}
