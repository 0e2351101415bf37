/** A search box with a list below it, after the ARIA pattern "editable combobox with list autocomplete". */

import { isAbort } from "./api.js";
import { counted, el, fill, freshId, latest } from "./dom.js";

const PAUSE = 120;

/**
 * @typedef {{value: string, label: string, note?: string}} Option
 * @typedef {Object} Combobox
 * @property {HTMLElement} node
 * @property {function(string): void} show puts the text of what is chosen into the box.
 * @property {function(FocusOptions=): void} focus
 */

/**
 * Makes a combobox.
 * @param {Object} given
 * @param {string} given.label
 * @param {string} given.placeholder
 * @param {string} given.noun what is searched, for the line that counts: "user".
 * @param {function(string, AbortSignal): Promise<{options: Option[], total: number}>} given.search
 * @param {function(Option): void} given.onPick
 * @param {boolean} [given.clears] whether the box is empty again after a choice.
 * @returns {Combobox}
 */
export function combobox(given) {
  const box = new Box(given);
  return { node: box.node, show: (text) => box.show(text), focus: (how) => box.input.focus(how) };
}

class Box {
  constructor(given) {
    this.given = given;
    this.options = [];
    this.active = -1;
    this.chosen = "";
    this.fresh = latest();
    this.build();
  }

  build() {
    const [id, listId] = [freshId("box"), freshId("list")];
    this.input = el("input", {
      id,
      type: "text",
      role: "combobox",
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
      placeholder: this.given.placeholder,
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": listId,
      oninput: () => this.searchSoon(),
      onkeydown: (event) => this.onKey(event),
      onclick: () => this.open(),
      onblur: () => this.leave(),
    });
    this.list = el("ul", { id: listId, role: "listbox", "aria-label": `${this.given.label}: found` });
    this.count = el("p", { class: "options-count", role: "status" });
    this.popup = el("div", { class: "options", hidden: true, onmousedown: (event) => event.preventDefault() });
    this.popup.append(this.list, this.count);
    this.node = el(
      "div",
      { class: "combobox" },
      el("label", { for: id }, this.given.label),
      el("div", { class: "combobox-frame" }, this.input, this.popup),
    );
  }

  show(text) {
    this.chosen = text;
    this.input.value = text;
  }

  searchSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.search(this.input.value.trim()), PAUSE);
  }

  open() {
    if (!this.popup.hidden) return;
    this.input.select();
    this.search(this.input.value === this.chosen ? "" : this.input.value.trim());
  }

  async search(query) {
    const signal = this.fresh();
    try {
      const { options, total } = await this.given.search(query, signal);
      this.fill(options, total);
    } catch (error) {
      if (isAbort(error)) return;
      this.fill([], 0);
      this.count.textContent = error.message;
    }
  }

  fill(options, total) {
    this.options = options;
    fill(this.list, options.map((option, place) => this.row(option, place)));
    const more = total > options.length ? `${options.length} of ${counted(total, this.given.noun)}; type to narrow` : "";
    this.count.textContent = total === 0 ? `No ${this.given.noun} by this name` : more;
    this.popup.hidden = false;
    this.list.hidden = options.length === 0;
    this.input.setAttribute("aria-expanded", String(options.length > 0));
    this.activate(-1);
  }

  row(option, place) {
    const note = option.note ? el("span", { class: "soft" }, option.note) : null;
    return el(
      "li",
      {
        id: `${this.list.id}-${place}`,
        role: "option",
        "aria-selected": "false",
        onclick: () => this.pick(place),
      },
      el("span", {}, option.label),
      note,
    );
  }

  activate(place) {
    this.active = place;
    [...this.list.children].forEach((row, at) => row.setAttribute("aria-selected", String(at === place)));
    const row = this.list.children[place];
    if (row) this.input.setAttribute("aria-activedescendant", row.id);
    else this.input.removeAttribute("aria-activedescendant");
    row?.scrollIntoView({ block: "nearest" });
  }

  onKey(event) {
    const last = this.options.length - 1;
    const moves = {
      ArrowDown: () => this.activate(this.active >= last ? 0 : this.active + 1),
      ArrowUp: () => this.activate(this.active <= 0 ? last : this.active - 1),
    };
    if (moves[event.key]) {
      event.preventDefault();
      if (this.popup.hidden) this.open();
      else moves[event.key]();
    } else if (event.key === "Enter" && !this.popup.hidden && last >= 0) {
      event.preventDefault();
      this.pick(Math.max(0, this.active));
    } else if (event.key === "Escape") {
      this.close();
      this.input.value = this.given.clears ? "" : this.chosen;
    }
  }

  pick(place) {
    const option = this.options[place];
    this.close();
    this.show(this.given.clears ? "" : option.label);
    this.given.onPick(option);
  }

  close() {
    clearTimeout(this.timer);
    this.fresh();
    this.popup.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.activate(-1);
  }

  leave() {
    this.close();
    if (!this.given.clears) this.input.value = this.chosen;
  }
}
