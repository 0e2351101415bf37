/** The recommendations, best first. */

import { isAbort } from "./api.js";
import { recommend, titleOf } from "./catalogue.js";
import { announce, counted, el, figure, fill, latest, waiting } from "./dom.js";
import { showProblem } from "./problems.js";
import { sameWho } from "./state.js";

export const TOP = 10;

/**
 * The list of recommendations.
 * @param {HTMLElement} root
 * @param {function(Object, boolean=): void} go changes the state.
 * @param {function(string): void} onWhy an item was chosen by hand.
 * @returns {function(State, ?State): void} shows a state.
 */
export function createList(root, go, onWhy) {
  const view = { state: null, found: null, fresh: latest() };
  return (state, before) => {
    view.state = state;
    if (!before || !sameWho(state, before)) load(root, view, go, onWhy);
    else mark(root, view);
  };
}

async function load(root, view, go, onWhy) {
  const { state } = view;
  const signal = view.fresh();
  view.found = null;
  if (state.history?.length === 0) {
    fill(root, el("p", { class: "note" }, "They appear with the first item."));
    return;
  }
  fill(root, waiting("Loading the recommendations", TOP));
  try {
    view.found = await recommend(state, TOP, signal);
  } catch (error) {
    if (!isAbort(error)) showProblem(root, error, () => load(root, view, go, onWhy));
    return;
  }
  draw(root, view, onWhy);
  const first = view.found.items[0];
  if (first && !view.state.item) go({ item: first.item_id }, true);
}

function draw(root, view, onWhy) {
  const { items, masked } = view.found;
  const who = view.state.user ?? "this history";
  if (!items.length) {
    fill(root, el("p", { class: "note" }, "Nothing is left to recommend: all items are known already."));
    return;
  }
  const most = Math.max(...items.map((item) => Math.abs(item.score)), 1e-9);
  const rows = items.map((item, place) => row(item, place, most, onWhy));
  const unmasked = "These may hold items that the user knows already: the server has no data.";
  const note = masked === false ? el("p", { class: "note" }, unmasked) : null;
  fill(root, note, el("ol", { class: "picks" }, rows));
  mark(root, view);
  announce(`${counted(items.length, "recommendation")} for ${who}; the first is ${items[0].title || items[0].item_id}`);
}

function row(item, place, most, onWhy) {
  const bar = el("span", { class: "pick-bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(Math.max(0, item.score) / most));
  const title = titleOf(item.item_id);
  const button = el(
    "button",
    { type: "button", class: "pick", onclick: () => onWhy(item.item_id) },
    el("span", { class: "pick-place", "aria-hidden": "true" }, String(place + 1)),
    el("span", { class: "pick-title" }, title),
    el("span", { class: "pick-score" }, el("span", { class: "unseen" }, "score "), figure(item.score)),
    el("span", { class: "pick-why" }, "Why?"),
    bar,
  );
  const node = el("li", {}, button);
  node.dataset.item = item.item_id;
  return node;
}

function mark(root, view) {
  for (const node of root.querySelectorAll("li")) {
    const chosen = node.dataset.item === view.state.item;
    if (chosen) node.firstChild.setAttribute("aria-current", "true");
    else node.firstChild.removeAttribute("aria-current");
  }
}
