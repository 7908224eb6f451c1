/**
 * svg.js -- elements, colours and type that the drawings share. Everything is drawn with
 * presentation attributes, so that a saved SVG looks as it did in the page, and no style attribute
 * meets the Content-Security-Policy.
 */

export const SANS =
  "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Liberation Sans', sans-serif";
export const SERIF =
  "Charter, 'Bitstream Charter', 'Source Serif 4', Cambria, Georgia, 'Noto Serif', serif";

export const THEMES = {
  light: {
    name: "light",
    ground: "#ffffff",
    panel: "#ffffff",
    ink: "#1b1b1a",
    soft: "#5a5955",
    rule: "#dddcd6",
    accent: "#0b57a4",
    warm: "#a3420b",
    zero: "#ecebe6",
    zeroInk: "#8d8b84",
    below: "#c9c7c0",
    lock: "#c2185b",
    path: {k: "#0b62a8", v: "#c2410c", mlp: "#4d7c0f", skip: "#77756e", q: "#7e3aa8"},
  },
  dark: {
    name: "dark",
    ground: "#131417",
    panel: "#1b1d21",
    ink: "#e9e8e4",
    soft: "#a9a7a0",
    rule: "#383a41",
    accent: "#8ec1f5",
    warm: "#f2a56b",
    zero: "#2a2c32",
    zeroInk: "#7c7f88",
    below: "#4a4d55",
    lock: "#ff7eb0",
    path: {k: "#6cb6ff", v: "#ff9c5b", mlp: "#a3d65c", skip: "#9a9ca3", q: "#cf9cf0"},
  },
};

/** Paths are told apart by dash, too. */
export const DASH = {k: "6 3", v: "none", mlp: "2 3", skip: "none", q: "8 3 2 3"};

/** An SVG element with attributes and children (strings become text). */
export function el(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes))
    if (value !== null && value !== undefined) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** An HTML element. */
export function html(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role" || key === "for") node.setAttribute(key, value);
    else if (key.startsWith("data-")) node.dataset[key.slice(5)] = value;
    else node[key] = value;
  }
  node.append(...children);
  return node;
}

/** Text of a drawing. options: anchor, size, fill, serif, weight, rotate. */
export function text(x, y, words, theme, options = {}) {
  return el(
    "text",
    {
      x: round(x),
      y: round(y),
      "text-anchor": options.anchor || "start",
      "font-size": options.size || 12,
      "font-family": options.serif ? SERIF : SANS,
      "font-weight": options.weight,
      fill: options.fill || theme.soft,
      transform: options.rotate ? `rotate(${options.rotate} ${round(x)} ${round(y)})` : null,
    },
    words,
  );
}

export function line(x1, y1, x2, y2, stroke, options = {}) {
  return el("line", {
    x1: round(x1),
    y1: round(y1),
    x2: round(x2),
    y2: round(y2),
    stroke,
    "stroke-width": options.width || 1,
    "stroke-dasharray": options.dash || null,
  });
}

/** A path through points; null starts anew. */
export function path(points, attributes) {
  let d = "",
    pen = "M";
  for (const p of points) {
    if (p) d += pen + round(p[0]) + " " + round(p[1]);
    pen = p ? "L" : "M";
  }
  return el("path", {d: d || "M0 0", fill: "none", ...attributes});
}

export function round(v) {
  return Math.round(v * 100) / 100;
}

/** A drawing of this size, with a name for those who hear it. */
export function drawing(width, height, label) {
  return el("svg", {
    viewBox: `0 0 ${round(width)} ${round(height)}`,
    width: round(width),
    height: round(height),
    role: "img",
    "aria-label": label,
  });
}

/** A pattern of strokes for exact zeros; id must be new in the page. */
export function hatch(id, theme) {
  return el(
    "defs",
    {},
    el(
      "pattern",
      {id, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"},
      el("rect", {width: 5, height: 5, fill: theme.zero}),
      el("line", {x1: 0, y1: 0, x2: 0, y2: 5, stroke: theme.zeroInk, "stroke-width": 1.2}),
    ),
  );
}
