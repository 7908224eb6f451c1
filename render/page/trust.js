/**
 * trust.js -- panel 9: what the flow predicts against what happened when vectors were moved, and
 * the identities of this run.
 */
import {head} from "./data.js";
import {frame} from "./axes.js";
import {drawInto, mount, onWidth} from "./panel.js";
import {el, html, line, text, drawing} from "./svg.js";
import {number, quoted} from "./words.js";
import {quote, record} from "./commands.js";

const body = document.getElementById("b-trust");
const moves = head.moves || [];
const sizes = head.sizes ? [0, ...head.sizes] : [];
let picked = {move: 0, size: 0};

/** Put the panel together. */
export function begin() {
  body.append(verdict());
  if (moves.length) {
    body.append(pickers());
    onWidth(body, draw);
  }
  const results = agreement();
  if (results) results.classList.add("agreement");
  body.append(
    results,
    identities(),
    html(
      "p",
      {className: "note"},
      "A gradient says how a loss answers to small changes of a vector. It does not say what " +
        "would happen if a token were left " +
        "out or replaced; the larger moves above show how far it reaches. Norms at different " +
        "sites have different units.",
    ),
  );
  mount({
    id: "trust",
    help: HELP,
    draw: moves.length ? draw : undefined,
    svg: moves.length ? svg : undefined,
    table,
    command,
  });
  if (moves.length) draw();
}

const HELP =
  "Vectors of this text were moved by a part t of the whole way, the model was run again in " +
  "double precision, and the " +
  "change of each loss is held against t times what the record says. t → 0 compares " +
  "derivatives: there a right record lies on " +
  "the diagonal. scaled: towards nothing. gradient, random: by |a| uphill or anywhere. mean, " +
  "swap: to another vector. path: " +
  "uphill, seen by one path only.";

function verdict() {
  const failed = head.checks.filter((c) => !(c.residual <= c.tolerance)).length;
  const wrong = moves.filter((m) => !m.holds).length;
  const p = html("p", {className: "verdict"});
  if (head.checks.length)
    p.append(
      failed
        ? `${failed} of ${head.checks.length} identities FAIL. `
        : `All ${head.checks.length} identities of this run hold. `,
    );
  if (moves.length) {
    const pairs = moves.reduce((a, m) => a + m.n, 0),
      worst = Math.max(...moves.map((m) => m.residual || 0));
    p.append(
      wrong
        ? `${wrong} of ${moves.length} kinds of move contradict the record.`
        : `The record is the derivative: over ${pairs} pairs of ${moves.length} kinds of move ` +
            `the largest residual is ${number(worst)}.`,
    );
  } else
    p.append(
      head.no_trust
        ? `Predictions were not held against real changes: ${head.no_trust}.`
        : "Predictions were not held against real changes.",
    );
  return p;
}

function pickers() {
  const pick = (label, list, name) => {
    const select = html(
      "select",
      {},
      ...list.map((words, k) => html("option", {value: k, textContent: words})),
    );
    select.addEventListener("change", () => {
      picked[name] = Number(select.value);
      draw();
    });
    return html("label", {}, label + " ", select);
  };
  return html(
    "div",
    {className: "under"},
    pick(
      "move",
      moves.map((m) => `${m.what}, ${m.move}`),
      "move",
    ),
    pick(
      "size t",
      sizes.map((s) => (s ? fraction(s) : "→ 0 (derivative)")),
      "size",
    ),
  );
}

const fraction = (s) => (s < 1 && Number.isInteger(1 / s) ? "1/" + 1 / s : number(s));

function draw() {
  drawInto("trust", svg);
  body.querySelector(".under").after(body.querySelector(":scope > svg"));
  const m = moves[picked.move];
  document.getElementById("t-trust").textContent =
    `Predicted against real change, ${m.what} ${m.move}, ` + unitNow();
}

const unitNow = () => (head.target ? "units of the target" : "nats");

/* Both axes the same symmetric logarithm: equality is the diagonal. */
function svg(room, theme) {
  const width = room > 1000 ? 430 : room; // beside the table, or above it
  const m = moves[picked.move],
    t = sizes[picked.size];
  const points = m.points
    .map((p) => ({loss: p[0], j: p[1], x: p[2], y: t ? p[3 + picked.size] / t : p[3]}))
    .filter((p) => p.y !== null);
  const top = Math.max(...points.flatMap((p) => [Math.abs(p.x), Math.abs(p.y)]), 1e-12),
    size = Math.min(width, 420);
  const axis = (name) => ({
    from: -top * 1.3,
    to: top * 1.3,
    kind: "symlog",
    constant: top / 1000,
    name,
  });
  const f = frame(
    {
      width: size,
      height: size * 0.86,
      label: `Predicted against real change of the losses: ${m.what}, ${m.move}`,
      x: axis("predicted" + (t ? " / t" : "") + ", " + unitNow()),
      y: axis("real" + (t ? " / t" : "")),
    },
    theme,
  );
  f.svg.append(
    line(f.plot.left, f.plot.bottom, f.plot.right, f.plot.top, theme.soft, {dash: "4 3"}),
  );
  for (const p of points) {
    const own = p.loss === p.j;
    const mark = own
      ? el("path", {
          d: `M${f.x(p.x) - 3} ${f.y(p.y)}h6m-3-3v6`,
          stroke: theme.warm,
          "stroke-width": 1.4,
        })
      : el("circle", {cx: f.x(p.x), cy: f.y(p.y), r: 2.6, fill: theme.accent, "fill-opacity": 0.6});
    mark.append(
      el(
        "title",
        {},
        `loss ${p.loss}, vector at ${quoted(p.j)} (${p.j}): predicted ${number(p.x)}, real ` +
          `${number(p.y)}`,
      ),
    );
    f.svg.append(mark);
  }
  const beside = width > size + 190,
    high = size * 0.86 + 4,
    side = beside ? size + 16 : 58,
    y = beside ? 30 : high + 14;
  const out = drawing(width, beside ? high : high + 98, f.svg.getAttribute("aria-label"));
  out.append(...f.svg.childNodes);
  [
    [`t ${t ? "= " + fraction(t) : "→ 0"}`, theme.ink],
    [`r = ${fixed(m.r[picked.size])}, slope ${fixed(m.slope[picked.size])}`, theme.ink],
    [`${m.n} pairs${points.length < m.n ? `, ${points.length} drawn` : ""}`, theme.soft],
    ["● a later token’s loss", theme.accent],
    ["+ the position’s own loss", theme.warm],
  ].forEach(([words, fill], k) => out.append(text(side, y + 18 * k, words, theme, {fill})));
  return out;
}

const fixed = (v) => (v === null ? "–" : v.toFixed(4).replace("-", "−"));

function agreement() {
  if (!moves.length) return "";
  const rows = moves.map((m) =>
    html(
      "tr",
      {},
      ...[
        `${m.what}, ${m.move}`,
        m.n,
        number(m.residual),
        fixed(m.r[0]),
        ...sizes.slice(1).map((_, k) => `${fixed(m.r[k + 1])} / ${number(m.slope[k + 1])}`),
        m.range ? "t = " + fraction(m.range) : m.range === 0 ? "none" : "–",
        m.holds ? "holds" : "FAILS",
      ].map((c) => html("td", {}, String(c))),
    ),
  );
  return scrolled(
    "Predicted against real changes, by kind of move: correlation at t → 0, then correlation " +
      "and slope at each t; linear up to the largest t " +
      "with a slope within 10 % and a correlation over 0.95.",
    [
      "move",
      "pairs",
      "residual",
      "r at t → 0",
      ...sizes.slice(1).map((s) => "t = " + fraction(s)),
      "linear up to",
      "",
    ],
    rows,
  );
}

function identities() {
  if (!head.checks.length)
    return html("p", {textContent: "The identities were not measured in this run."});
  const rows = head.checks.map((c) =>
    html(
      "tr",
      {},
      html("td", {}, html("code", {}, c.name)),
      html("td", {className: "words"}, c.what || ""),
      html("td", {}, number(c.residual)),
      html("td", {}, number(c.tolerance)),
      html("td", {}, c.residual <= c.tolerance ? "holds" : "FAILS"),
    ),
  );
  return scrolled(
    "Identities measured in this run, on this model and text.",
    ["identity", "what must hold", "residual", "tolerance", ""],
    rows,
  );
}

function scrolled(caption, names, rows) {
  return html(
    "div",
    {className: "scroll", tabIndex: 0, role: "region", "aria-label": caption},
    html(
      "table",
      {},
      html("caption", {}, caption),
      html(
        "thead",
        {},
        html("tr", {}, ...names.map((n) => (n ? html("th", {scope: "col"}, n) : html("td", {})))),
      ),
      html("tbody", {}, ...rows),
    ),
  );
}

function table() {
  if (!moves.length)
    return {
      caption: "Identities of this run.",
      head: ["identity", "residual", "tolerance"],
      rows: head.checks.map((c) => [c.name, c.residual, c.tolerance]),
    };
  const m = moves[picked.move];
  return {
    caption:
      `Pairs of the move ${m.what}, ${m.move}: change of the loss in ${unitNow()}; real ` +
      `at t is divided by nothing.`,
    head: [
      "loss",
      "position",
      "predicted at t = 1",
      "derivative",
      ...sizes.slice(1).map((s) => "real at t = " + fraction(s)),
    ],
    rows: m.points.map((p) =>
      p.map((v) => (Number.isInteger(v) ? v : Number(Number(v).toPrecision(5)))),
    ),
  };
}

function command() {
  return `backflow trust ${record} ${quote(head.model_name || "MODEL")} -o trust.pdf`;
}
