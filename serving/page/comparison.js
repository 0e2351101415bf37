/** Two answers side by side: what changed in the text, in the score, and in the recommendations. */

import { announce, el, figure, fill } from "./dom.js";
import { compare } from "./diff.js";
import { titleOf } from "./catalogue.js";

/**
 * Shows two answers.
 * @param {HTMLElement} root
 * @param {Object} given
 * @param {Object[]} given.sides two answers of POST /v1/explain, each with a `heading`.
 * @param {?Object[][]} given.lists the recommendations of both; null where they are not compared.
 * @param {Node[]} given.above what stands before the texts.
 * @param {function(): void} given.onReset
 */
export function showComparison(root, { sides, lists, above, onReset }) {
  const [before, after] = sides;
  const found = compare(before.explanation, after.explanation);
  const verdict = found.same ? "The text did not change." : "The text changed.";
  const change = figure(after.score - before.score, true);
  const score = `The score went from ${figure(before.score)} to ${figure(after.score)} (${change}).`;
  fill(
    root,
    above,
    el("p", { class: found.same ? "outcome same" : "outcome" }, el("b", {}, verdict), ` ${score}`),
    el(
      "div",
      { class: "sides" },
      side(before, runs(found.before, "del")),
      side(after, runs(found.after, "ins")),
    ),
    lists ? moves(...lists) : null,
    el("button", { type: "button", class: "quiet", onclick: onReset }, "Back to how it was"),
  );
  announce(`${verdict} ${score}`);
}

function side(answer, nodes) {
  return el(
    "article",
    { class: "side" },
    el("h3", {}, answer.heading),
    el("p", { class: "said" }, nodes),
    el("p", { class: "soft" }, `score ${figure(answer.score)}`),
  );
}

function runs(found, tag) {
  return found.flatMap((run, place) => [place ? " " : "", run.same ? run.text : el(tag, {}, run.text)]);
}

/** The recommendations afterwards, each with how it moved, and those that fell out. */
function moves(before, after) {
  const places = new Map(before.map((item, place) => [item.item_id, place]));
  const kept = new Set(after.map((item) => item.item_id));
  const gone = before.filter((item) => !kept.has(item.item_id));
  const rows = after.map((item, place) => {
    const was = places.get(item.item_id);
    return el("li", {}, el("span", { class: "move-title" }, titleOf(item.item_id)), moved(was, place));
  });
  const names = gone.map((item) => titleOf(item.item_id)).join(", ");
  const lost = gone.length ? el("p", { class: "note" }, `No longer among them: ${names}.`) : null;
  const same = !gone.length && after.every((item, place) => places.get(item.item_id) === place);
  const title = same ? "The recommendations stay as they were" : "The recommendations afterwards, beside those of the whole history";
  return el("div", { class: "moves" }, el("h3", {}, title), el("ol", {}, rows), lost);
}

function moved(was, place) {
  if (was === undefined) return el("span", { class: "move new" }, "new");
  if (was === place) return el("span", { class: "move" }, el("span", { class: "unseen" }, "as before"));
  const [sign, words] = was > place ? ["\u2191", "up"] : ["\u2193", "down"];
  const by = Math.abs(was - place);
  const seen = el("span", { "aria-hidden": "true" }, `${sign}${by}`);
  return el("span", { class: `move ${words}` }, seen, el("span", { class: "unseen" }, `${words} ${by}`));
}
