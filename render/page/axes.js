/**
 * axes.js -- a frame with two axes for small line charts, by d3-scale.
 */
import scaleLinear from "d3-scale/src/linear.js";
import scaleLog from "d3-scale/src/log.js";
import scaleSymlog from "d3-scale/src/symlog.js";
import {drawing, el, line, text} from "./svg.js";
import {number, power} from "./words.js";

/**
 * @param {{width: number, height: number, x: object, y: object, label: string}} what
 *   x, y: {from, to, kind: "log"|"linear"|"symlog", name, constant}
 * @returns {{svg: SVGElement, x: Function, y: Function, plot: object}}
 */
export function frame(what, theme) {
  const {width, height} = what,
    plot = {left: 58, right: width - 12, top: 10, bottom: height - 42};
  const svg = drawing(width, height, what.label);
  const x = scale(what.x, [plot.left, plot.right]),
    y = scale(what.y, [plot.bottom, plot.top]);
  for (const [v, words] of ticks(what.y, y, Math.max(3, Math.floor(height / 45)))) {
    svg.append(line(plot.left, y(v), plot.right, y(v), theme.rule));
    svg.append(text(plot.left - 6, y(v) + 4, words, theme, {anchor: "end", size: 11}));
  }
  for (const [v, words] of ticks(what.x, x, Math.max(3, Math.floor(width / 70)))) {
    svg.append(line(x(v), plot.bottom, x(v), plot.bottom + 4, theme.soft));
    svg.append(text(x(v), plot.bottom + 17, words, theme, {anchor: "middle", size: 11}));
  }
  svg.append(line(plot.left, plot.bottom, plot.right, plot.bottom, theme.soft));
  svg.append(
    text((plot.left + plot.right) / 2, height - 8, what.x.name, theme, {
      anchor: "middle",
      size: 11.5,
    }),
  );
  svg.append(
    text(12, (plot.top + plot.bottom) / 2, what.y.name, theme, {
      anchor: "middle",
      size: 11.5,
      rotate: -90,
    }),
  );
  return {svg, x, y, plot};
}

function scale(axis, range) {
  const made =
    axis.kind === "log"
      ? scaleLog()
      : axis.kind === "symlog"
        ? scaleSymlog().constant(axis.constant)
        : scaleLinear();
  return made.domain([axis.from, axis.to === axis.from ? axis.from + 1 : axis.to]).range(range);
}

function ticks(axis, made, wanted) {
  if (axis.kind === "log") return logTicks(axis, wanted);
  if (axis.kind === "symlog") {
    const top = Math.max(Math.abs(axis.from), Math.abs(axis.to)),
      e = Math.floor(Math.log10(top));
    return [-(10 ** e), 0, 10 ** e]
      .filter((v) => v >= axis.from && v <= axis.to)
      .map((v) => [v, number(v)]);
  }
  return made
    .ticks(wanted)
    .filter((v) => !axis.whole || Number.isInteger(v))
    .map((v) => [v, number(v)]);
}

/* 1, 2, 5 times powers of ten, or powers alone, or every second one. */
function logTicks({from, to}, wanted) {
  const list = [];
  const decades = Math.log10(to / from),
    steps = decades < 1.4 ? [1, 2, 5] : decades < 0.5 ? [1, 2, 3, 5, 7] : [1];
  const every = Math.max(1, Math.ceil(decades / wanted));
  for (let e = Math.floor(Math.log10(from)); e <= Math.log10(to); e++)
    for (const s of steps) {
      const v = s * 10 ** e;
      if (v >= from * 0.999 && v <= to * 1.001 && (steps.length > 1 || e % every === 0))
        list.push([v, v >= 0.01 && v < 10000 ? number(v) : s === 1 ? power(e) : number(v)]);
    }
  return list;
}

/** Names of lines, above the frame's right end or under it. */
export function key(items, theme, width) {
  const g = el("g");
  let x = 58,
    y = 12;
  for (const [words, attributes] of items) {
    const w = 26 + words.length * 6.3 + 12;
    if (x + w > width && x > 58) [x, y] = [58, y + 17];
    g.append(
      el("line", {x1: x, x2: x + 20, y1: y - 4, y2: y - 4, "stroke-width": 2, ...attributes}),
    );
    g.append(text(x + 25, y, words, theme, {size: 11.5}));
    x += w;
  }
  return {node: g, height: y + 6};
}
