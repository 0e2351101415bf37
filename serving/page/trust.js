/** How far an answer is to be trusted: what the server says of it, and what was checked. */

import { claimSentence } from "./claims.js";
import { el, fill, listed, waiting } from "./dom.js";

/** Shows that an answer is awaited. */
export function trustWaits(root) {
  fill(root, waiting("Waiting for the explanation", 3));
}

/** Shows what is known without an answer. */
export function noTrust(root, about) {
  fill(root, facts([["Model", el("code", {}, about.model)]]), notes(about.notes));
}

/**
 * Shows what is known of an answer.
 * @param {HTMLElement} root
 * @param {Object} answer of POST /v1/explain.
 * @param {number} seconds that it took.
 */
export function showTrust(root, answer, seconds) {
  const took = `${seconds < 0.095 ? "under 0.1" : seconds.toFixed(1)}\u202fs`;
  const rows = [
    ["Claims", claimSentence(answer.claims)],
    ["Answer", answer.cached ? `kept from before, shown in ${took}` : `written now, in ${took}`],
    ["Model", el("code", {}, answer.model)],
    ["Profiles", shortened(answer.shortened)],
  ];
  const caution =
    "The model writes fluently whether it is right or not. A claim that no text backs may be true all the same, and one " +
    "that is backed need not be why the item was recommended.";
  fill(root, facts(rows), notes(answer.notes), el("p", { class: "note" }, caution));
}

function shortened(cut) {
  if (!cut) return null;
  const line = ([name, [had, kept]]) => `${name.replaceAll("_", " ")} cut from ${had} to ${kept} tokens`;
  const parts = Object.entries(cut).map(line);
  return parts.length ? `${listed(parts)}.` : null;
}

function facts(rows) {
  const known = rows.filter(([, what]) => what);
  return el("dl", { class: "facts" }, known.flatMap(([name, what]) => [el("dt", {}, name), el("dd", {}, what)]));
}

function notes(lines) {
  return lines?.length ? el("ul", { class: "notes" }, lines.map((line) => el("li", {}, line))) : null;
}
