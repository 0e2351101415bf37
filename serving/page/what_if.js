/** "What if": the same question with a history item left out, or of another user, beside the answer as it was. */

import { ask, isAbort } from "./api.js";
import { recommend, searchUsers, titleOf } from "./catalogue.js";
import { combobox } from "./combobox.js";
import { showComparison } from "./comparison.js";
import { el, fill, latest, listed, waiting } from "./dom.js";
import { TOP } from "./list.js";
import { showProblem } from "./problems.js";
import { rowOf, sameWho } from "./state.js";
import { leaveOut } from "./who.js";

const OFFERED = 6;
const MOST = 500; // that the server takes, and names, of a history

/**
 * The controls and the comparison.
 * @param {HTMLElement} root
 * @param {function(Object): void} go changes the state.
 * @param {Object} about the server.
 * @returns {{show: function(State, ?State): void, know: function(string[]): void, carry: function(string[]): void}} `know`
 *   takes the history, `carry` the items of it that carry most of the score.
 */
export function createWhatIf(root, go, about) {
  const view = new WhatIf(root, go, about);
  return {
    show: (state, before) => view.show(state, before),
    know: (items) => view.know(items),
    carry: (items) => view.carry(items),
  };
}

class WhatIf {
  constructor(root, go, about) {
    Object.assign(this, { go, about, state: null, known: null, carriers: [], asked: "", fresh: latest() });
    this.users = combobox({
      label: "The same item for another user",
      placeholder: "Search users by id",
      noun: "user",
      search: searchUsers,
      onPick: (option) => this.go({ swap: option.value === this.state.user ? null : option.value, without: [] }),
    });
    this.chips = el("div", { class: "leave-out" });
    this.result = el("div", { class: "comparison" });
    fill(root, el("div", { class: "columns controls" }, this.chips, this.users.node), this.result);
  }

  show(state, before) {
    this.state = state;
    if (!before || !sameWho(state, before)) Object.assign(this, { known: null, carriers: [] });
    this.users.show(state.swap ?? "");
    this.draw();
    this.compare();
  }

  know(items) {
    this.known = items;
    this.draw();
    this.compare();
  }

  carry(items) {
    this.carriers = items;
    this.draw();
  }

  draw() {
    const focused = this.chips.contains(document.activeElement) ? document.activeElement.dataset.item : null;
    const text = this.carriers.length ? "Leave out what carries most" : "Leave out of the history";
    fill(this.chips, el("p", { class: "label" }, text), this.choices());
    if (focused) [...this.chips.querySelectorAll("button")].find((node) => node.dataset.item === focused)?.focus();
  }

  choices() {
    const { known, state } = this;
    if (!known) return el("p", { class: "note" }, "Waiting for the history.");
    if (!known.length) {
      const blind = state.user && !this.about.has_data;
      const why = blind ? "The server has no data, so nothing is known to leave out." : "There is nothing to leave out.";
      return el("p", { class: "note" }, why);
    }
    if (known.length === 1) return el("p", { class: "note" }, "One item is all there is; it has to stay.");
    const first = this.carriers.filter((id) => known.includes(id));
    const offered = [...new Set([...(first.length ? first : known.slice(0, OFFERED)), ...this.left()])];
    return el("div", { class: "toggles" }, offered.map((id) => this.toggle(id)));
  }

  toggle(id) {
    const out = this.state.without.includes(id);
    const flip = () => this.go(leaveOut(this.state, id, this.known));
    const button = el(
      "button",
      { type: "button", class: "toggle", "aria-pressed": String(out), onclick: flip },
      el("span", { class: "unseen" }, "Leave out "),
      el("span", {}, titleOf(id)),
    );
    button.dataset.item = id;
    return button;
  }

  /** Items left out that the history has. */
  left() {
    return this.state.without.filter((id) => this.known?.includes(id));
  }

  /** Asks anew where what is compared has changed. */
  compare() {
    const { state } = this;
    const wanted = state.item && (state.swap || (this.known && this.left().length));
    if (!wanted) {
      this.asked = "";
      this.fresh();
      const lost = state.item && state.without.length && this.known;
      fill(this.result, lost ? el("p", { class: "note" }, "What was left out is not in this history.") : null);
      return;
    }
    const asked = JSON.stringify([state, state.swap ? null : this.known]);
    if (asked === this.asked) return;
    this.asked = asked;
    this.load(state.swap ? this.swapped() : this.reduced());
  }

  async load(plan) {
    const signal = this.fresh();
    this.wait();
    try {
      const [answers, lists] = await Promise.all([
        ask("v1/explain", { body: plan.body, signal }),
        plan.lists ? Promise.all(plan.lists.map(([who, exclude]) => recommend(who, TOP, signal, exclude))) : null,
      ]);
      const sides = plan.order.map((place, side) => ({ ...answers.explanations[place], heading: plan.titles[side] }));
      const switching = this.result.contains(document.activeElement);
      showComparison(this.result, {
        sides,
        lists: lists?.map((found) => found.items),
        above: this.controls(plan),
        onReset: () => this.reset(),
      });
      if (switching) this.result.querySelector("input, button").focus();
    } catch (error) {
      if (isAbort(error)) return;
      showProblem(this.result, error, () => this.load(plan));
    }
    this.result.removeAttribute("aria-busy");
  }

  /** A comparison stays, pale, until the next one is there; the reader's place in it is not lost. */
  wait() {
    if (this.result.querySelector(".sides")) this.result.setAttribute("aria-busy", "true");
    else fill(this.result, waiting("Asking again", 4));
  }

  reset() {
    this.go({ without: [], swap: null });
    this.chips.querySelector("button")?.focus();
  }

  /** The whole history and what is left of it, both as histories, so that only the left-out items differ. */
  reduced() {
    const { state, known } = this;
    const gone = this.left();
    const rest = known.filter((id) => !gone.includes(id));
    const profile = state.user && state.keep ? { profile_of: state.user } : {};
    const rows = [known, rest].map((history) => ({ history, item_id: state.item, ...profile }));
    return {
      body: { histories: rows },
      order: [0, 1],
      titles: ["With the whole history", `Without ${listed(gone.map(titleOf))}`],
      lists: [
        [{ history: known }, []],
        [{ history: rest }, gone],
      ],
      note: this.honestly(),
      keeps: Boolean(state.user),
    };
  }

  honestly() {
    const { user, keep } = this.state;
    const latest = this.known.length >= MOST ? ` Only the latest ${MOST} items of the history count.` : "";
    if (!user) return "Both sides are found from the items alone; only what is left out differs.";
    const profile = keep ? `both keep the profile text of ${user}` : "neither has a profile text";
    return (
      "A stored user has a fixed place in the graph. To leave something out, the place is found anew from the history: " +
      `both sides below are made so, and ${profile}, so the left text and score may differ from those above.${latest}`
    );
  }

  /** The same item for this user, or history, and for another user. */
  swapped() {
    const { state } = this;
    const other = { user_id: state.swap, item_id: state.item };
    const titles = [state.user ? `For ${state.user}` : "For this history", `For ${state.swap}`];
    if (state.user) {
      const note = "The same item for two stored users, each with its own profile text and its own place in the graph.";
      return { body: { pairs: [rowOf(state), other] }, order: [0, 1], titles, note };
    }
    const note = "The same item for this history, which has no profile text, and for a stored user with its own.";
    return { body: { pairs: [other], histories: [rowOf(state)] }, order: [1, 0], titles, note }; // pairs are answered first
  }

  controls(plan) {
    const note = el("p", { class: "note" }, plan.note);
    if (!plan.keeps) return [note];
    const onchange = () => this.go({ keep: !this.state.keep });
    const input = el("input", { type: "checkbox", role: "switch", checked: this.state.keep, onchange });
    return [note, el("label", { class: "switch" }, input, el("span", {}, "Keep the profile text"))];
  }
}
