/** Elements, made so that a text can never become markup: strings are text nodes, and nothing here reads HTML. */

/**
 * Makes an element.
 * @param {string} tag
 * @param {Object} [given] `class`, attributes, and listeners as `onclick`; false and null leave an attribute out.
 * @param {...(Node|string|null|false)} children strings become text.
 * @returns {HTMLElement}
 */
export function el(tag, given = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...present(children));
  return node;
}

/** Puts children in the place of what a node holds. */
export function fill(node, ...children) {
  node.replaceChildren(...present(children));
  return node;
}

function present(children) {
  return children.flat().filter((child) => child !== null && child !== undefined && child !== false);
}

export function byId(id) {
  return document.getElementById(id);
}

/** Says something to those who hear the page; politely, after what is being said. */
export function announce(text) {
  byId("status").textContent = text;
}

/** Grey lines where a text will stand; said once, so that nobody wonders. */
export function waiting(label, lines = 3) {
  const bars = Array.from({ length: lines }, () => el("span", { class: "wait-line", "aria-hidden": "true" }));
  return el("div", { class: "wait" }, el("span", { class: "unseen" }, label), bars);
}

/** A new signal each time; the one before is aborted, so that only the latest answer is shown. */
export function latest() {
  let controller = null;
  return () => {
    controller?.abort();
    controller = new AbortController();
    return controller.signal;
  };
}

/** An id that no other element has. */
export function freshId(stem) {
  freshId.count = (freshId.count ?? 0) + 1;
  return `${stem}-${freshId.count}`;
}

const COUNT = new Intl.NumberFormat("en-GB");

/** 1200 as "1,200". */
export function counted(number, one, many = `${one}s`) {
  return `${COUNT.format(number)} ${number === 1 ? one : many}`;
}

/** A figure with three places and a true minus sign; with `signed` also a plus. */
export function figure(value, signed = false) {
  const text = Math.abs(value).toFixed(3);
  if (Number(text) === 0) return text;
  return (value < 0 ? "\u2212" : signed ? "+" : "") + text;
}

/** A share as whole per cent. */
export function percent(value) {
  const whole = Math.round(100 * value);
  return `${whole < 0 ? "\u2212" : ""}${Math.abs(whole)}\u202f%`;
}

/** "a, b and c". */
export function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
