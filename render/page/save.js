/**
 * save.js -- drawings and numbers as files, commands to the clipboard. Nothing leaves the page.
 */

const PNG_SCALE = 3;

function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const a = document.createElement("a");
  a.href = url;
  a.download = name;
  document.body.append(a);
  a.click();
  a.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** An SVG drawing as a document of its own. */
export function svgText(svg) {
  const copy = svg.cloneNode(true);
  for (const node of [copy, ...copy.querySelectorAll("*")])
    for (const name of ["tabindex", "class", "aria-describedby"]) node.removeAttribute(name);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return '<?xml version="1.0" encoding="UTF-8"?>\n' + new XMLSerializer().serializeToString(copy);
}

/** @param {SVGElement} svg */
export function saveSvg(svg, name) {
  download(new Blob([svgText(svg)], {type: "image/svg+xml"}), name + ".svg");
}

/** @param {SVGElement} svg */
export async function savePng(svg, name) {
  const image = new Image();
  const width = Number(svg.getAttribute("width")),
    height = Number(svg.getAttribute("height"));
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svgText(svg));
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = width * PNG_SCALE;
  canvas.height = height * PNG_SCALE;
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  download(blob, name + ".png");
}

/* Spreadsheets take a cell that begins with one of =+-@ for a formula: a quote before it stops that. */
function cell(value) {
  if (typeof value === "number") return String(value);
  let text = String(value);
  if (/^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
}

export function csvText(table) {
  return [table.head, ...table.rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

/** @param {{head: string[], rows: Array<Array<string|number>>}} table */
export function saveCsv(table, name) {
  download(new Blob(["\ufeff" + csvText(table)], {type: "text/csv"}), name + ".csv");
}

/** Put words on the clipboard, the old way too: pages from disk may not have the new one. */
export async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
  } catch {
    const area = document.createElement("textarea");
    area.value = words;
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  return "copied: " + words;
}
