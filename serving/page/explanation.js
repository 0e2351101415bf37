/** The explanation of one item, word by word, and the claims that it makes. */

import { isAbort, stream } from "./api.js";
import { remember, titleOf } from "./catalogue.js";
import { claimList, markedText } from "./claims.js";
import { announce, counted, el, figure, fill, latest } from "./dom.js";
import { showProblem } from "./problems.js";
import { bodyOf, sameWho } from "./state.js";

/**
 * The explanation.
 * @param {HTMLElement} root
 * @param {{begin: function(): void, done: function(Object, number): void, failed: function(): void}} on `done` takes the
 *   answer and the seconds that it took.
 * @returns {function(State, ?State): void} shows a state.
 */
export function createExplanation(root, on) {
  const view = { fresh: latest() };
  return (state, before) => {
    if (before && sameWho(state, before) && state.item === before.item) return;
    view.state = state;
    if (state.item && (state.user || state.history?.length)) load(root, view, on);
    else empty(root, view, on);
  };
}

function empty(root, view, on) {
  view.fresh();
  on.failed();
  fill(root, heading("Choose a recommendation"), el("p", { class: "soft" }, "Its explanation appears here, word by word."));
}

async function load(root, view, on) {
  const { state } = view;
  const signal = view.fresh();
  const started = performance.now();
  const parts = draw(root, state);
  on.begin();
  let text = "";
  const onText = (piece) => {
    text += piece;
    fill(parts.said, text, caret());
  };
  try {
    const answer = await stream({ ...bodyOf(state), evidence: true, claims: true }, { signal, onText });
    finish(parts, state, answer);
    on.done(answer, (performance.now() - started) / 1000);
  } catch (error) {
    if (isAbort(error)) return;
    parts.said.removeAttribute("aria-busy");
    fill(parts.said, text ? `${text} …` : "");
    showProblem(parts.below, error, () => load(root, view, on));
    on.failed();
  }
}

/** An empty explanation; its heading stays the same element while the text comes, so that a reader's place there stays too. */
function draw(root, state) {
  const parts = {
    kicker: el("p", { class: "kicker" }, el("span", {}, whom(state))),
    title: heading(titleOf(state.item)),
    said: el("p", { class: "said", "aria-busy": "true" }, el("span", { class: "unseen" }, "Writing"), caret()),
    below: el("div", {}),
  };
  fill(root, parts.kicker, parts.title, parts.said, parts.below);
  return parts;
}

function finish({ kicker, title, said, below }, state, answer) {
  remember([answer]);
  const text = answer.explanation || "(The model said nothing.)";
  const claims = answer.claims ?? null;
  fill(kicker, el("span", {}, whom(state)), el("span", {}, `score ${figure(answer.score)}`));
  fill(title, titleOf(state.item));
  fill(said, markedText(text, claims ?? []));
  said.removeAttribute("aria-busy");
  fill(below, claimList(claims, said));
  announce(`${titleOf(state.item)}: ${text}`);
}

function whom(state) {
  return state.user ? `For ${state.user}` : `For a history of ${counted(state.history.length, "item")}`;
}

function caret() {
  return el("span", { class: "caret", "aria-hidden": "true" });
}

function heading(text) {
  return el("h2", { id: "item-title", tabindex: "-1" }, text);
}
