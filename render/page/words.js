/**
 * words.js -- numbers and tokens as text.
 */
import {head} from "./data.js";

const SUPER = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** To three digits: 0.25, −3, 2×10⁻⁷. */
export function number(v) {
  if (v === null || !Number.isFinite(v)) return "–";
  const a = Math.abs(v),
    sign = v < 0 ? "−" : "";
  if (a === 0) return "0";
  if (a >= 0.001 && a < 99999.5) return sign + String(Number(a.toPrecision(3)));
  let e = Math.floor(Math.log10(a)),
    m = Number((a / 10 ** e).toPrecision(3));
  if (m >= 10) {
    m /= 10;
    e++;
  }
  return sign + (m === 1 ? "" : m + "×") + power(e);
}

/** 10⁻² */
export function power(e) {
  return "10" + (e < 0 ? "⁻" : "") + String(Math.abs(e)).replace(/\d/g, (d) => SUPER[d]);
}

/** A part of a whole; never rounded to none or all. */
export function percent(part) {
  const p = 100 * part,
    a = Math.abs(p);
  if (!Number.isFinite(p)) return "–";
  if (a > 0 && a < 0.05) return "under 0.1 %";
  if (a > 99.95 && a < 100) return "over 99.9 %";
  const digits = (a > 0 && a < 9.95) || (a > 99 && a < 100) ? 1 : 0;
  return (p < 0 ? "−" : "") + a.toFixed(digits) + " %";
}

/** The label of token k; isolated, so that it turns nothing around it. */
export function token(k) {
  return "\u2068" + head.tokens[k] + "\u2069";
}

/** In quotation marks. */
export function quoted(k) {
  return "“" + token(k) + "”";
}

/** At most n characters (of letters as readers count them). */
export function short(k, n) {
  const text = head.tokens[k];
  const parts = [...text];
  return parts.length <= n ? text : parts.slice(0, n - 1).join("") + "…";
}

/** What a site's values are measured in. */
export function unit(site, score) {
  if (site === "attn") return "weight, 0 to 1";
  const what = head.target ? "units of the target" : "nats";
  return score === "grad_x_act" ? what : what + " per unit";
}

const SITES = {
  resid_pre: "input of the layer",
  resid_mid: "after attention",
  resid_final: "input of the final norm",
  attn_out: "attention’s output",
  mlp_out: "the MLP’s output",
  q: "queries",
  k: "keys",
  v: "values",
  z: "heads’ outputs",
  attn: "attention",
};

/** "values v of layer 2, head 1" */
export function place(s) {
  if (s.site === "resid_pre" && s.layer === 0) return "the embeddings (resid_pre, layer 0)";
  let text = SITES[s.site] + (s.site === "attn" ? "" : " (" + s.site + ")");
  if (s.layer >= 0) text += ", layer " + s.layer;
  if (s.head >= 0) text += ", head " + s.head;
  return text;
}

/** "norm of the gradient" */
export function scoreName(site, score) {
  if (site === "attn") return "attention weight";
  return score === "grad_x_act" ? "gradient times activation, signed" : "norm of the gradient";
}
