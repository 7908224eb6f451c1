/**
 * commands.js -- the options of backflow's commands that select what is on the page.
 */
import {head} from "./data.js";
import {state} from "./state.js";

/** The record beside the page. */
export const record = (head.stem || "run") + ".safetensors";

/** "run.safetensors --site v --layer 2 --head 1 --log" */
export function siteOptions() {
  let words = `${record} --site ${state.site}`;
  if (state.score) words += ` --score ${state.score}`;
  if (state.layer >= 0) words += ` --layer ${state.layer}`;
  if (state.head >= 0) words += ` --head ${state.head}`;
  return words + (state.scale === "linear" ? "" : ` --scale ${state.scale}`);
}

/** An argument for a shell. */
export function quote(word) {
  return /^[\w./:,=+-]+$/.test(word) ? word : "'" + word.replace(/'/g, "'\\''") + "'";
}
