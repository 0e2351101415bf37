/** For whom: a stored user, or a history of items that the reader types. */

import { historyOf, learnTitles, searchItems, searchUsers, titleOf } from "./catalogue.js";
import { isAbort } from "./api.js";
import { combobox } from "./combobox.js";
import { counted, el, fill, freshId, latest, waiting } from "./dom.js";
import { showProblem } from "./problems.js";
import { sameWho } from "./state.js";

const SHOWN = 4; // the recommendations should stand in sight below
const MAX_HISTORY = 500;

/**
 * The controls that choose for whom.
 * @param {HTMLElement} root
 * @param {function(Object): void} go changes the state.
 * @param {{firstUser: ?string, hasData: boolean}} about
 * @param {{known: function(string[]): void, left: function(): void}} on `known` takes the items of whoever is chosen, when
 *   they are there; `left` hears that one was left out or put back here.
 * @returns {function(State, ?State): void} shows a state.
 */
export function createWho(root, go, about, on) {
  const name = freshId("kind");
  const users = combobox({
    label: "User",
    placeholder: "Search users by id",
    noun: "user",
    search: searchUsers,
    onPick: (option) => go(ofUser(option.value)),
  });
  const items = combobox({
    label: "Add an item",
    placeholder: "Search items by title",
    noun: "item",
    search: searchItems,
    clears: true,
    onPick: (option) => view.state.history.length < MAX_HISTORY && go(ofHistory([...view.state.history, option.value])),
  });
  const view = { state: null, all: false, fresh: latest(), chips: el("div", { class: "history" }), users, items };
  const kinds = [
    kind(name, "A user", () => go(ofUser(about.firstUser))),
    kind(name, "A history of items", () => go(ofHistory([]))),
  ];
  view.kinds = kinds.map((label) => label.querySelector("input"));
  const group = el("fieldset", { class: "kinds" }, el("legend", { class: "unseen" }, "For whom"), kinds);
  fill(root, group, users.node, items.node, view.chips);
  return (state, before) => show(view, go, about, on, state, before);
}

/** A change that chooses a user. */
export function ofUser(user) {
  return { user, history: null, item: null, without: [], swap: null };
}

/** A change that chooses a history. */
export function ofHistory(history) {
  return { user: null, history: [...new Set(history)], item: null, without: [], swap: null };
}

function kind(name, text, onchange) {
  return el("label", {}, el("input", { type: "radio", name, onchange }), el("span", {}, text));
}

function show(view, go, about, on, state, before) {
  const other = !before || !sameWho(state, before);
  view.state = state;
  const [asUser, asHistory] = view.kinds;
  asUser.checked = state.history === null;
  asHistory.checked = state.history !== null;
  view.users.node.hidden = state.history !== null;
  view.items.node.hidden = state.history === null;
  view.users.show(state.user ?? "");
  if (other) load(view, go, about, on);
  else draw(view, go, about, on);
}

async function load(view, go, about, on) {
  const { state, fresh, chips } = view;
  const signal = fresh();
  view.known = null;
  if (state.user) {
    view.all = false;
    fill(chips, waiting("Loading the history", 2));
  }
  try {
    view.known = state.history ?? (await historyOf(state.user, signal));
    if (state.history) await learnTitles(state.history, signal);
  } catch (error) {
    if (isAbort(error)) return;
    showProblem(chips, error, () => load(view, go, about, on));
    on.known([]);
    return;
  }
  draw(view, go, about, on);
  on.known(view.known);
}

function draw(view, go, about, on) {
  const { state, known, chips } = view;
  if (!known) return;
  if (!known.length) {
    fill(chips, el("p", { class: "note" }, emptyLine(state, about)));
    return;
  }
  const shown = view.all ? known : known.slice(0, SHOWN);
  const focus = [...chips.querySelectorAll("button")].indexOf(document.activeElement);
  const title = state.user ? `${counted(known.length, "item")} in the history` : counted(known.length, "item");
  const more = known.length > SHOWN ? toggleAll(view, go, about, on, known.length) : null;
  const row = state.user ? (id) => storedChip(id, state, known, go, on) : (id) => typedChip(id, state, go);
  const hint = state.user ? "Leave one out and see what changes." : null;
  fill(
    chips,
    el("p", { class: "history-title" }, title, hint ? el("span", { class: "soft" }, ` · ${hint}`) : null),
    el("ul", { class: "chips" }, shown.map(row)),
    more,
  );
  const buttons = chips.querySelectorAll("button");
  if (focus >= 0) (buttons[Math.min(focus, buttons.length - 1)] ?? view.items).focus({ preventScroll: true });
}

function emptyLine(state, about) {
  if (state.history) return "Add items that somebody liked; the model need not know this person.";
  if (about.hasData) return "This user has no training items.";
  return "The server has no data, so the history of a user is not known.";
}

function toggleAll(view, go, about, on, count) {
  const flip = () => {
    view.all = !view.all;
    draw(view, go, about, on);
  };
  const text = view.all ? "Show fewer" : `Show all ${count}`;
  return el("button", { type: "button", class: "link", "aria-expanded": String(view.all), onclick: flip }, text);
}

function typedChip(id, state, go) {
  const remove = () => go(ofHistory(state.history.filter((one) => one !== id)));
  return chip(titleOf(id), "Remove", "\u00d7", false, remove);
}

function storedChip(id, state, known, go, on) {
  const out = state.without.includes(id);
  const flip = () => {
    go(leaveOut(state, id, known));
    on.left();
  };
  return out ? chip(titleOf(id), "Put back", "\u21ba", true, flip) : chip(titleOf(id), "Leave out", "\u00d7", false, flip);
}

/** A change that leaves a history item out, or puts it back; one item always stays. */
export function leaveOut(state, id, known) {
  const out = state.without.includes(id);
  const without = out ? state.without.filter((one) => one !== id) : [...state.without, id];
  return known.some((one) => !without.includes(one)) ? { without, swap: null } : {};
}

function chip(title, verb, sign, out, onclick) {
  return el(
    "li",
    { class: out ? "chip out" : "chip" },
    el("span", { class: "chip-title" }, title),
    el("button", { type: "button", "aria-label": `${verb} ${title}`, title: verb, onclick }, sign),
  );
}
