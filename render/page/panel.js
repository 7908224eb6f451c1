/**
 * panel.js -- what all panels share: the "?" line, the table, saving, drawing again when the
 * width or the colours change.
 */
import {THEMES, html} from "./svg.js";
import {state} from "./state.js";
import {saveCsv, savePng, saveSvg, copy} from "./save.js";

/**
 * @typedef {object} Panel
 * @property {string} id
 * @property {string} help                 the formula, in a line or two
 * @property {() => void} [draw]  into the page
 * @property {(width: number, theme: object) => SVGElement} [svg]  a drawing to save
 * @property {() => {caption: string, head: string[], rows: Array<Array<string|number>>}} [table]
 * @property {() => {head: string[], rows: Array<Array<string|number>>}} [csv]  if longer than the table
 * @property {() => string} [command]      that redraws it, or gives its numbers
 */

const SAVE_WIDTH = {map: 760, graph: 1000, trust: 1000, text: 760};
const MOST_ROWS = 400;
const panels = [];

/** The colours in use. */
export function theme() {
  const chosen =
    state.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  return THEMES[chosen];
}

/** Say something to those who hear the page, and nobody else. */
export function say(words) {
  document.getElementById("say").textContent = words;
}

/** Put a panel's tools beside its title. @param {Panel} panel */
export function mount(panel) {
  const section = document.getElementById("p-" + panel.id);
  const help = html("p", {className: "help", hidden: true, id: "help-" + panel.id}, panel.help);
  const holder = html("div", {className: "table", hidden: true});
  const tools = html("div", {className: "tools"});
  const name = section
    .querySelector("h2")
    .textContent.replace(/^\d+\s*/, "")
    .replace(/:\s*$/, "");
  panel.name = name;
  tools.append(toggle("?", "What is plotted: " + name, help));
  if (panel.table) {
    panel.showTable = () => fillTable(holder, panel);
    tools.append(toggle("Table", "Table: " + name, holder, panel.showTable));
    panel.holder = holder;
  }
  tools.append(saver(panel, name));
  section.querySelector(".head").append(tools);
  section.querySelector(".head").after(help);
  section.append(holder);
  panels.push(panel);
}

function toggle(label, title, what, fill) {
  const button = html("button", {
    type: "button",
    title,
    textContent: label,
    "aria-expanded": "false",
    "aria-label": title,
  });
  button.addEventListener("click", () => {
    what.hidden = !what.hidden;
    button.setAttribute("aria-expanded", String(!what.hidden));
    if (!what.hidden && fill) fill();
  });
  return button;
}

function saver(panel, name) {
  const list = html("div", {className: "menu"});
  const menu = html(
    "details",
    {className: "save"},
    html("summary", {"aria-label": "Save: " + name}, "Save"),
    list,
  );
  const file = "backflow_" + panel.id;
  const add = (label, act) => {
    const button = html("button", {type: "button", textContent: label});
    button.addEventListener("click", async () => {
      menu.open = false;
      menu.querySelector("summary").focus();
      say((await act()) || label + ": done");
    });
    list.append(button);
  };
  const svg = () => panel.svg(SAVE_WIDTH[panel.id] || 520, THEMES.light);
  if (panel.svg) {
    add("SVG", () => saveSvg(svg(), file));
    add("PNG", () => savePng(svg(), file));
  }
  if (panel.table) add("CSV", () => saveCsv((panel.csv || panel.table)(), file));
  if (panel.command) add("Copy the command", () => copy(panel.command()));
  menu.addEventListener("keydown", (e) => {
    if (e.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
    e.stopPropagation();
  });
  document.addEventListener("click", (e) => {
    if (!menu.contains(e.target)) menu.open = false;
  });
  return menu;
}

function fillTable(holder, panel) {
  const t = panel.table();
  const rows = t.rows.slice(0, MOST_ROWS);
  const more =
    t.rows.length > rows.length
      ? ` The first ${rows.length} of ${t.rows.length} rows; Save, CSV has all.`
      : "";
  const head = html("tr", {}, ...t.head.map((h) => html("th", {scope: "col"}, h)));
  const body = rows.map((r) =>
    html("tr", {}, ...r.map((cell) => html("td", {}, html("bdi", {}, String(cell))))),
  );
  holder.replaceChildren(
    html(
      "div",
      {className: "scroll", tabIndex: 0, role: "region", "aria-label": "Table: " + panel.name},
      html(
        "table",
        {},
        html("caption", {}, t.caption + more),
        html("thead", {}, head),
        html("tbody", {}, ...body),
      ),
    ),
  );
}

/** Draw all panels again, or those for which which(panel) holds; open tables follow. */
export function redraw(which = () => true) {
  for (const panel of panels.filter(which)) {
    if (panel.draw) panel.draw();
    if (panel.holder && !panel.holder.hidden) panel.showTable();
  }
}

/** By how much drawings are larger than they say: type grows with the window on large screens. */
export function enlarged() {
  return Math.max(1, parseFloat(getComputedStyle(document.documentElement).fontSize) / 16.5);
}

/** Draw a panel's SVG into its body at the body's width. */
export function drawInto(id, make) {
  const body = document.getElementById("b-" + id),
    by = enlarged();
  const made = make(Math.max(240, (body.clientWidth || 480) / by), theme());
  for (const side of ["width", "height"])
    made.setAttribute(side, by * Number(made.getAttribute(side)));
  const old = body.querySelector(":scope > svg");
  if (old) old.replaceWith(made);
  else body.append(made);
}

/** Call fn when the width of an element changes. */
export function onWidth(element, fn) {
  let width = element.clientWidth,
    waiting = false;
  new ResizeObserver(() => {
    if (element.clientWidth === width || waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      width = element.clientWidth;
      fn();
    });
  }).observe(element);
}
