/**
 * summary.js -- panel 1: its links lead to the panels that show their number, and a line about the
 * locked loss.
 */
import {head, rowOf} from "./data.js";
import {headsOf} from "./selection.js";
import {state, update} from "./state.js";
import {number, percent, quoted} from "./words.js";

const live = document.getElementById("live");

/** Make the links work within the page, with what they select. */
export function mountSummary() {
  for (const a of document.querySelectorAll("#p-summary a[data-panel]"))
    a.addEventListener("click", (e) => {
      e.preventDefault();
      const {layer, head: hd} = a.dataset;
      if (hd !== undefined)
        update({
          site: "v",
          score: "grad_norm",
          layer: Number(layer),
          head: headsOf("v", "grad_norm").includes(Number(hd)) ? Number(hd) : -1,
        });
      const panel = document.getElementById("p-" + a.dataset.panel),
        title = panel.querySelector("h2");
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      panel.scrollIntoView({behavior: still ? "auto" : "smooth", block: "start"});
      title.tabIndex = -1;
      title.focus({preventScroll: true});
    });
}

/** Say what the locked loss sends to embeddings. @param {import("./data.js").Matrix} m of these */
export function say(m) {
  if (state.loss === null || rowOf(state.loss) < 0) {
    live.textContent = "";
    return;
  }
  const r = rowOf(state.loss),
    i = state.loss,
    all = m.rowSum(r, true),
    others = m.rowSum(r);
  const list = Array.from({length: m.reach(r)}, (_, j) => [j, Math.abs(m.value(r, j))]).filter(
    ([j]) => j !== i,
  );
  list.sort((a, b) => b[1] - a[1]);
  const most = list
    .slice(0, 3)
    .filter(([, v]) => v > 0)
    .map(([j, v]) => `${quoted(j)} (${percent(v / others)})`);
  live.textContent =
    `Loss ${i}, which predicts ${quoted(i + 1)} (${number(head.loss[i])} nats), sends ` +
    `${percent(all ? others / all : 0)} of its ` +
    `gradient at embeddings to other positions than its own` +
    (most.length ? `, most of it to ${most.join(", ")}.` : ".");
}
