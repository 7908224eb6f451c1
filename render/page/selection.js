/**
 * selection.js -- the map that the state selects, with its range, and what can be selected.
 */
import {find, head, layersOf, matrix} from "./data.js";
import {Range} from "./colour.js";
import {state} from "./state.js";

/** The selected map: null until it is unpacked. {m, range, id} */
export let shown = null;

/** All layers of the selected site, score and head: [{layer, m}], null until unpacked. */
export let stack = null;

const ranges = new Map();

/** @returns {Range} the range of a map on the state's scale; kept for the maps last used. */
export function rangeOf(m, id) {
  const key = id + state.scale;
  if (!ranges.has(key)) {
    if (ranges.size > 64) ranges.clear();
    ranges.set(key, new Range(m, state.scale));
  }
  return ranges.get(key);
}

/** The number of the state's map. */
export function selected() {
  return find(state.site, state.score, state.layer, state.head);
}

/** Unpack what the state selects; true if anything new is shown. */
export async function load() {
  const id = selected();
  const m = await matrix(id);
  if (id !== selected()) return false; // the reader has moved on
  shown = {id, m, range: rangeOf(m, id)};
  return true;
}

/** Unpack the layers of the selection; true if it is still wanted. */
export async function loadStack() {
  const key = [state.site, state.score, state.head].join();
  const list = layersOf(state.site, state.score, state.head);
  const made = await Promise.all(list.map(async ([layer, id]) => ({layer, m: await matrix(id)})));
  if (key !== [state.site, state.score, state.head].join()) return false;
  stack = made;
  return true;
}

const unique = (list) => [...new Set(list)];

/** What there is: sites; of a site scores; of both heads; of all three layers. */
export const sites = () => unique(head.matrices.map((m) => m[0]));
export const scores = (site) => unique(head.matrices.filter((m) => m[0] === site).map((m) => m[1]));
export const headsOf = (site, score) =>
  unique(head.matrices.filter((m) => m[0] === site && m[1] === score).map((m) => m[3]));
export const layers = (site, score, hd) => layersOf(site, score, hd).map(([layer]) => layer);

/** Make any state one that the page has data for; wrong values go to the nearest that exist. */
export function normalise(s) {
  const nearest = (list, value) => (list.includes(value) ? value : list[0]);
  s.site = nearest(sites(), s.site);
  s.score = nearest(scores(s.site), s.score);
  s.head = nearest(headsOf(s.site, s.score), s.head);
  const there = layers(s.site, s.score, s.head);
  if (!there.includes(s.layer))
    s.layer = there.reduce(
      (a, b) => (Math.abs(b - s.layer) < Math.abs(a - s.layer) ? b : a),
      there[0],
    );
  s.scale = nearest(["log", "linear", "rank"], s.scale);
  s.pick = nearest(["loss", "source"], s.pick);
  s.theme = nearest([null, "light", "dark"], s.theme);
  s.keep = Math.min(0.99, Math.max(0.05, Number(s.keep) || 0.6));
  s.loss = head.losses.includes(s.loss) ? s.loss : null;
  s.source = Number.isInteger(s.source) && s.source >= 0 && s.source < head.N ? s.source : null;
  return s;
}
