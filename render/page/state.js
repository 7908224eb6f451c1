/**
 * state.js -- the one state object of the page, its life in the URL's hash, and who listens.
 */

/**
 * @typedef {object} State
 * @property {string} site       what the map shows
 * @property {string} score
 * @property {number} layer      -1: the site has none
 * @property {number} head       -1: all heads as one
 * @property {string} scale      "log", "linear" or "rank"
 * @property {?number} loss      locked loss i
 * @property {?number} source    locked position j
 * @property {number} keep       part of the flow that the graph keeps
 * @property {string} pick       what a click on the text locks: "loss" or "source"
 * @property {?string} theme     "light", "dark", or null: as the reader's system says
 */

/** @type {State} */
export const state = {
  site: "resid_pre",
  score: "grad_norm",
  layer: 0,
  head: -1,
  scale: "log",
  loss: null,
  source: null,
  keep: 0.6,
  pick: "loss",
  theme: null,
};

const defaults = {...state};
const numbers = ["layer", "head", "loss", "source", "keep"];
const listeners = [];
let check = (s) => s;
let waiting = null;

/** Call fn(changed) after each change; changed is the set of names that differ. */
export function subscribe(fn) {
  listeners.push(fn);
}

/** Give a function that turns any state into one that the data has; and the values to start from. */
export function begin(normalise, start) {
  check = normalise;
  Object.assign(defaults, start);
  Object.assign(state, defaults);
  read();
  addEventListener("hashchange", () => {
    const before = {...state};
    Object.assign(state, defaults);
    read();
    tell(before);
  });
}

/** Change some values. Listeners are told once a frame. */
export function update(patch) {
  const before = {...state};
  Object.assign(state, patch);
  check(state);
  write();
  tell(before);
}

function tell(before) {
  if (!waiting) {
    waiting = before;
    requestAnimationFrame(() => {
      const from = waiting;
      waiting = null;
      const changed = new Set(Object.keys(state).filter((k) => state[k] !== from[k]));
      if (changed.size) for (const fn of listeners) fn(changed);
    });
  }
}

function read() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const [key, value] of words) {
    if (!(key in defaults)) continue;
    if (!numbers.includes(key)) state[key] = value;
    else if (value !== "" && Number.isFinite(Number(value))) state[key] = Number(value);
  }
  check(state);
}

function write() {
  const words = new URLSearchParams();
  for (const key of Object.keys(defaults))
    if (state[key] !== defaults[key] && state[key] !== null) words.set(key, String(state[key]));
  const hash = words.toString();
  try {
    history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
  } catch {
    location.hash = hash; // some browsers keep file: pages from replaceState
  }
}
