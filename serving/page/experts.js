/** Which experts of the two adapters spoke, as far as their gates say. */

import { el, fill, listed, percent, waiting } from "./dom.js";

const EVEN = 1.6;

/** Shows that an answer is awaited. */
export function expertsWait(root) {
  fill(root, waiting("Waiting for the explanation", 3));
}

/** Shows that there is nothing to show. */
export function noExperts(root) {
  fill(root, el("p", { class: "note" }, "Nothing yet."));
}

/** Shows the gates of an answer. */
export function showExperts(root, answer) {
  const both = [
    ["For the user", answer.user_gates],
    ["For the item", answer.item_gates],
  ];
  fill(
    root,
    el("p", {}, sentence(both)),
    el("div", { class: "gates" }, both.map(([title, gates]) => columns(title, gates))),
    el("p", { class: "note" }, EXPLAINED),
  );
}

const EXPLAINED =
  "Experts are small networks that carry a place in the graph over to the language model; a gate weighs them for each user " +
  "and item. The line is an even share. Nobody gave the experts topics, so a number here names no taste.";

function isEven(gates) {
  const even = 1 / gates.length;
  return Math.max(...gates) < EVEN * even && Math.min(...gates) > even / EVEN;
}

function sentence(both) {
  const every = (holds) => both.every(([, gates]) => holds(gates));
  if (every((gates) => gates.length === 1)) return "This model has one expert a side; there is nothing to choose.";
  if (every(isEven)) return "All experts speak about equally here, so none of them stands out.";
  const parts = both.map(([title, gates]) => {
    if (isEven(gates)) return `${title.toLowerCase()} all speak about equally`;
    const most = Math.max(...gates);
    return `${title.toLowerCase()} expert ${gates.indexOf(most) + 1} weighs most (${percent(most)})`;
  });
  const text = listed(parts);
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function columns(title, gates) {
  const top = Math.max(...gates, 1 / gates.length) * 1.1;
  const rows = gates.map((gate, place) => {
    const body = el("span", { class: "gate-body", "aria-hidden": "true" });
    body.style.setProperty("--height", String(gate / top));
    const name = el("span", { class: "gate-name" }, el("span", { class: "unseen" }, "expert "), String(place + 1));
    return el("li", { title: percent(gate) }, body, name, el("span", { class: "unseen" }, `: ${percent(gate)}`));
  });
  const list = el("ol", { class: "gate-bars" }, rows);
  list.style.setProperty("--even", String(1 / gates.length / top));
  return el("div", {}, el("h3", {}, title), list);
}
