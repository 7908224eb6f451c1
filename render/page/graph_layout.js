/**
 * graph_layout.js -- which edges and columns the graph shows, and the ways that carry most. The
 * flow is docs/graphs.md's: the sources carry 1 in all, and so does every level above them.
 */
import {PATHS} from "./data.js";

/** What whole paths of the first n edges carry from the sources to the loss. */
function carried(edges, n, sources, L, loss) {
  let below = Float64Array.from(sources);
  const layers = Array.from({length: L}, () => []);
  for (let k = 0; k < n; k++) layers[edges[k].layer].push(edges[k]);
  for (const layer of layers) {
    const above = new Float64Array(sources.length);
    for (const e of layer) above[e.from] += below[e.to] * Math.abs(e.p);
    below = above;
  }
  return below[loss];
}

/** The heaviest edges, as few as carry `keep` of the flow along whole paths; edges come heaviest
 * first. What no such path uses is left out. @returns {{kept: object[], part: number}} */
export function prune(edges, sources, L, loss, keep) {
  let low = 0,
    high = edges.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (carried(edges, mid, sources, L, loss) >= keep) high = mid;
    else low = mid + 1;
  }
  const first = edges.slice(0, low),
    up = Array.from({length: L + 1}, () => new Set());
  up[L].add(loss);
  for (let l = L - 1; l >= 0; l--)
    for (const e of first) if (e.layer === l && up[l + 1].has(e.from)) up[l].add(e.to);
  const down = Array.from({length: L + 1}, () => new Set());
  sources.forEach((v, j) => {
    if (v > 0) down[0].add(j);
  });
  for (let l = 0; l < L; l++)
    for (const e of first) if (e.layer === l && down[l].has(e.to)) down[l + 1].add(e.from);
  const kept = first.filter((e) => up[e.layer + 1].has(e.from) && down[e.layer].has(e.to));
  return {kept, part: carried(edges, low, sources, L, loss)};
}

/** Heads of one path between the same nodes become one edge, with a list of heads. */
export function bundle(kept) {
  const together = new Map();
  for (const e of kept) {
    const key = [e.layer, e.from, e.to, e.path].join();
    const b = together.get(key) || {
      layer: e.layer,
      from: e.from,
      to: e.to,
      name: PATHS[e.path],
      p: 0,
      flow: 0,
      heads: [],
    };
    b.p += e.p;
    b.flow += e.flow;
    b.heads.push([e.head, e.p]);
    together.set(key, b);
  }
  return [...together.values()];
}

/** Positions with a column of their own: all of a short text, else those that an edge between
 * positions touches, and the loss's; at most `most`, the heaviest. */
export function columns(loss, reach, bundled, most) {
  if (reach <= most) return Array.from({length: reach}, (_, j) => j);
  const weight = new Map([[loss, Infinity]]);
  for (const b of bundled)
    if (b.from !== b.to)
      for (const j of [b.from, b.to]) weight.set(j, (weight.get(j) || 0) + b.flow);
  return [...weight]
    .sort((a, b) => b[1] - a[1])
    .slice(0, most)
    .map(([j]) => j)
    .sort((a, b) => a - b);
}

const BEAM = 3000;

/** The paths that carry most; those that differ only in how they stay on a position are one.
 * @returns {Array<{part: number, source: number, moves: object[]}>} */
export function ways(edges, sources, L, loss, most) {
  let list = Array.from(sources, (part, j) => ({part, source: j, at: j, moves: []})).filter(
    (w) => w.part > 0,
  );
  for (let l = 0; l < L; l++) {
    const stay = new Map(),
      moves = new Map();
    for (const e of edges) {
      if (e.layer !== l) continue;
      if (e.from === e.to) stay.set(e.to, (stay.get(e.to) || 0) + Math.abs(e.p));
      else moves.set(e.to, [...(moves.get(e.to) || []), e]);
    }
    const next = [];
    for (const w of list) {
      if (stay.has(w.at)) next.push({...w, part: w.part * stay.get(w.at)});
      for (const e of moves.get(w.at) || [])
        next.push({...w, part: w.part * Math.abs(e.p), at: e.from, moves: [...w.moves, e]});
    }
    list = next.sort((a, b) => b.part - a.part).slice(0, BEAM);
  }
  return list.filter((w) => w.at === loss).slice(0, most);
}
