/**
 * map_legend.js -- the colour bar with its unit, and what is no colour of it.
 */
import {drawing, el, hatch, html, line, text} from "./svg.js";
import {number, unit} from "./words.js";

const WIDTH = 230,
  BAR = 11;

/** A colour bar. @returns {SVGElement} */
export function bar(m, range, theme, width = WIDTH) {
  const svg = drawing(width, 44, "Colour scale, " + unit(m.site, m.score));
  const id = "ramp" + (theme.name === "light" ? "l" : "d") + Math.random().toString(36).slice(2, 8);
  const pad = 16,
    inner = width - 2 * pad,
    from = range.signed ? -1 : 0;
  const stop = (k) =>
    el("stop", {offset: k / 24, "stop-color": range.colour(from + ((1 - from) * k) / 24)});
  svg.append(
    el("defs", {}, el("linearGradient", {id}, ...Array.from({length: 25}, (_, k) => stop(k)))),
  );
  svg.append(
    el("rect", {x: pad, y: 14, width: inner, height: BAR, fill: `url(#${id})`, stroke: theme.rule}),
  );
  svg.append(
    text(
      pad,
      10,
      unit(m.site, m.score) +
        (range.kind === "log" ? ", log scale" : range.kind === "rank" ? ", by rank" : ""),
      theme,
      {size: 11},
    ),
  );
  for (const [at, value] of marks(range)) {
    const x = pad + (inner * (at - from)) / (1 - from);
    svg.append(line(x, 14 + BAR, x, 18 + BAR, theme.soft));
    svg.append(
      text(x, 30 + BAR, typeof value === "string" ? value : number(value), theme, {
        size: 11,
        anchor:
          at === from && typeof value === "string"
            ? "start"
            : at === 1 && typeof value === "string"
              ? "end"
              : "middle",
      }),
    );
  }
  return svg;
}

function marks(range) {
  const list = range.ticks();
  if (!range.signed) return list;
  if (range.kind === "rank")
    return [
      [-1, "lowest"],
      [0, "0"],
      [1, "highest"],
    ];
  const ends = list.filter(([at]) => at === 0 || at === 1 || range.kind === "log");
  return [
    ...ends
      .filter(([at]) => at > 0)
      .map(([at, v]) => [-at, -v])
      .reverse(),
    ...ends,
  ];
}

/** Bar and keys. @returns {Array<Element>} */
export function legend(m, range, theme) {
  const keys = html("ul", {className: "keys"});
  const add = (swatch, words) => keys.append(html("li", {}, swatch, words));
  if (range.zeros) add(swatch("zero", theme), "exactly 0 where something could arrive");
  if (range.belows) add(swatch("below", theme), "not 0, but under " + number(m.low));
  if (range.signed) add(swatch("minus", theme), "below 0: blue, with a dash when near");
  return [bar(m, range, theme), keys];
}

/** A small cell. */
export function swatch(kind, theme) {
  const svg = el("svg", {viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true"});
  const id = "sw" + Math.random().toString(36).slice(2, 9);
  if (kind === "zero") svg.append(hatch(id, theme));
  svg.append(
    el("rect", {
      x: 1,
      y: 1,
      width: 12,
      height: 12,
      stroke: theme.zeroInk,
      fill: kind === "zero" ? `url(#${id})` : kind === "below" ? theme.below : "#5a8fc0",
    }),
  );
  if (kind === "minus") svg.append(line(4, 7, 10, 7, "#1b1b1a"));
  return svg;
}
