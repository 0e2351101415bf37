/** What is shown where an answer should stand. */

import { hasKey, keepKey } from "./api.js";
import { announce, counted, el, fill, freshId } from "./dom.js";

const KEY_EVENT = "xrec-key";

/** Calls back when a key was given. */
export function onKey(call) {
  document.addEventListener(KEY_EVENT, call);
}

/**
 * Shows a problem in one line, with a button that tries again; after 429 it waits as long as the server asks, then tries.
 * @param {HTMLElement} place
 * @param {Problem} problem
 * @param {function(): void} retry
 */
export function showProblem(place, problem, retry) {
  if (problem.status === 401) {
    fill(place, keyForm());
    return;
  }
  const line = el("p", { class: "problem-line" }, sentence(problem));
  const button = el("button", { type: "button", class: "quiet", onclick: retry }, "Try again");
  fill(place, el("div", { class: "problem" }, line, button));
  announce(line.textContent);
  if (problem.status === 429) countDown(line, button, problem.retryAfter, retry);
}

function sentence(problem) {
  const detail = problem.message.charAt(0).toUpperCase() + problem.message.slice(1);
  return /[.!?]$/.test(detail) ? detail : `${detail}.`;
}

function countDown(line, button, seconds, retry) {
  let left = Math.max(1, Math.ceil(seconds));
  const say = () => fill(line, `The server is busy; trying again in ${counted(left, "second")}.`);
  say();
  announce(line.textContent);
  const timer = setInterval(() => {
    left -= 1;
    if (!line.isConnected) clearInterval(timer); // something else is shown by now
    else if (left > 0) say();
    else {
      clearInterval(timer);
      retry();
    }
  }, 1000);
  button.textContent = "Try now";
  button.addEventListener("click", () => clearInterval(timer));
}

/** Asks for the server's key; it stays in this tab. */
function keyForm() {
  const id = freshId("key");
  const refused = hasKey() ? "The server does not know this key." : "This server asks for a key.";
  const input = el("input", { id, type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const submit = (event) => {
    event.preventDefault();
    keepKey(input.value.trim());
    document.dispatchEvent(new Event(KEY_EVENT));
  };
  announce(refused);
  return el(
    "form",
    { class: "key-form", onsubmit: submit },
    el("p", { class: "problem-line" }, refused),
    el("label", { for: id }, "Key"),
    el("div", { class: "key-row" }, input, el("button", { type: "submit", class: "strong" }, "Open")),
    el("p", { class: "note" }, "It stays in this tab, and goes with every request to this server only."),
  );
}
