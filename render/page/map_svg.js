/**
 * map_svg.js -- the map as a drawing to save: cells as one picture, all else as vectors.
 */
import {head} from "./data.js";
import {Geometry} from "./map_geometry.js";
import {picture} from "./map_draw.js";
import {bar} from "./map_legend.js";
import {shown} from "./selection.js";
import {state} from "./state.js";
import {drawing, el, text} from "./svg.js";
import {place, scoreName, short, unit} from "./words.js";

/** @returns {SVGElement} */
export function mapSvg(width, theme, sums) {
  const {m, range} = shown,
    g = new Geometry(width, m.rows, head.N),
    top = 40;
  const title = `${scoreName(m.site, m.score)} at ${place(state)}, ${unit(m.site, m.score)}`;
  const svg = drawing(width, g.height + top, title);
  const plot = el("g", {transform: `translate(0 ${top})`});
  svg.append(el("rect", {width, height: g.height + top, fill: theme.ground}));
  svg.append(
    text(g.left, 16, (head.model || "") + ": " + title, theme, {fill: theme.ink, size: 13}),
  );
  svg.append(
    text(g.left, 32, "losses down, named by the token they predict; positions across", theme, {
      size: 11,
    }),
  );
  plot.append(
    el("image", {
      href: picture(m, range, theme).toDataURL("image/png"),
      x: g.left,
      y: g.top,
      width: g.plotW,
      height: g.plotH,
      preserveAspectRatio: "none",
      "image-rendering": "pixelated",
    }),
  );
  plot.append(
    el("rect", {
      x: g.left,
      y: g.top,
      width: g.plotW,
      height: g.plotH,
      fill: "none",
      stroke: theme.rule,
    }),
  );
  labels(plot, g, m, theme, sums);
  const key = bar(m, range, theme);
  key.setAttribute("x", g.left + g.plotW - 236);
  key.setAttribute("y", g.top + 8);
  plot.append(key);
  svg.append(plot);
  return svg;
}

function labels(plot, g, m, theme, sums) {
  const stepR = Math.ceil(13 / g.cellH),
    stepC = Math.ceil(13 / g.cellW),
    foot = g.top + g.plotH + 8 + g.edge;
  const most = (list) => list.reduce((a, b) => Math.max(a, b), 0) || 1;
  const mostG = most(sums.given),
    mostR = most(sums.received);
  for (let r = 0; r < m.rows; r++) {
    plot.append(
      el("rect", {
        x: g.left + g.plotW + 5,
        y: g.atY(r) + 0.1 * g.cellH,
        width: (g.edge * sums.given[r]) / mostG,
        height: 0.8 * g.cellH,
        fill: theme.accent,
      }),
    );
    if (r % stepR === 0)
      plot.append(
        text(
          g.left - 6,
          g.atY(r + 0.5) + 4,
          short(m.site === "attn" ? m.index[r] : m.index[r] + 1, 11),
          theme,
          {anchor: "end", serif: true},
        ),
      );
  }
  for (let j = 0; j < head.N; j++) {
    plot.append(
      el("rect", {
        x: g.atX(j) + 0.1 * g.cellW,
        y: g.top + g.plotH + 5,
        width: 0.8 * g.cellW,
        height: (g.edge * sums.received[j]) / mostR,
        fill: theme.accent,
      }),
    );
    if (j % stepC === 0)
      plot.append(
        text(g.atX(j + 0.5) + 3, foot + 4, short(j, 10), theme, {
          anchor: "end",
          serif: true,
          rotate: -70,
        }),
      );
  }
}
