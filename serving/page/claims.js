/** The claims of a text: where they stand in it, and what becomes of each. */

import { el } from "./dom.js";

const MEANINGS = {
  supported: { sign: "✓", kind: "good", words: "backed by what is known of the item" },
  named: { sign: "✓", kind: "good", words: "named in what is known of the item" },
  "user only": { sign: "~", kind: "open", words: "known of the user only, not of the item" },
  unsupported: { sign: "?", kind: "bad", words: "backed by no text that is known" },
  "not named": { sign: "?", kind: "open", words: "not found by its words; other words for it are not found either" },
  contradicted: { sign: "!", kind: "bad", words: "a text says otherwise" },
  "no evidence": { sign: "–", kind: "open", words: "nothing is known of the item to check it with" },
};
const WORDS = new Set(["named", "not named"]); // verdicts of a server without an encoder
const SOURCES = {
  item_title: "its title",
  item_profile: "profile of the item",
  item_reviews: "a review of the item",
  item_explanations: "the item explained to another",
  user_profile: "profile of the user",
  user_history: "an item of the history",
  user_reviews: "a review by the user",
  user_explanations: "another item explained to the user",
};

/** A verdict with its sign and its meaning in plain words; one that is not known here keeps its name. */
export function meaningOf(verdict) {
  const name = String(verdict).replaceAll("_", " ");
  return MEANINGS[name] ?? { sign: "·", kind: "open", words: name };
}

/**
 * A text as nodes, its claims marked where they stand; one that the text says in other words is not marked.
 * @param {string} text
 * @param {{text: string, verdict: string}[]} claims
 * @returns {(Node|string)[]}
 */
export function markedText(text, claims) {
  const taken = [];
  claims.forEach((claim, number) => {
    for (const at of freePlaces(text, claim.text, taken)) {
      taken.push({ at, end: at + claim.text.length, number, claim });
    }
  });
  taken.sort((one, other) => one.at - other.at);
  const nodes = [];
  let from = 0;
  for (const { at, end, number, claim } of taken) {
    nodes.push(text.slice(from, at), mark(text.slice(at, end), claim, number));
    from = end;
  }
  nodes.push(text.slice(from));
  return nodes;
}

function freePlaces(text, words, taken) {
  const [where, what] = [text.toLowerCase(), words.toLowerCase()];
  if (!what || where.length !== text.length || what.length !== words.length) return []; // lower case of another length
  const found = [];
  for (let at = where.indexOf(what); at >= 0; at = where.indexOf(what, at + what.length)) {
    if (!taken.some((place) => at < place.end && place.at < at + what.length)) found.push(at);
  }
  return found;
}

function mark(text, claim, number) {
  const node = el("mark", { class: `claim-mark ${meaningOf(claim.verdict).kind}` }, text);
  node.dataset.claim = String(number);
  return node;
}

/**
 * The claims as a list; pointing at one, or focusing it, shows where it stands.
 * @param {?Object[]} claims null where the server made none.
 * @param {HTMLElement} said the text with its marks.
 */
export function claimList(claims, said) {
  if (!claims) return null;
  if (!claims.length) return el("p", { class: "note" }, "The text makes no claim about the item that could be checked.");
  const rows = claims.map((claim, number) => el("li", {}, row(claim, number, said)));
  return el("ul", { class: "claims", "aria-label": "What the text claims" }, rows);
}

function row(claim, number, said) {
  const { sign, words, kind } = meaningOf(claim.verdict);
  const marks = [...said.querySelectorAll(`[data-claim="${number}"]`)];
  const light = (on) => marks.forEach((node) => node.classList.toggle("lit", on));
  const button = el(
    "button",
    {
      type: "button",
      class: `claim ${kind}`,
      onmouseenter: () => light(true),
      onmouseleave: () => light(document.activeElement === button),
      onfocus: () => light(true),
      onblur: () => light(false),
    },
    el("span", { class: "claim-sign", "aria-hidden": "true" }, sign),
    el(
      "span",
      { class: "claim-body" },
      el("b", {}, claim.text),
      " ",
      el("span", { class: "claim-verdict" }, words),
      (claim.evidence ?? []).map((found) => proof(found)),
    ),
  );
  return button;
}

function proof({ source, text }) {
  const from = SOURCES[source] ?? String(source).replaceAll("_", " ");
  return el("span", { class: "claim-proof" }, " ", el("q", {}, text), el("span", { class: "soft" }, ` ${from}`));
}

/** How many claims are backed, as one sentence. */
export function claimSentence(claims) {
  if (!claims) return "Not checked.";
  if (!claims.length) return "The text makes no claim that could be checked.";
  const good = claims.filter((claim) => meaningOf(claim.verdict).kind === "good").length;
  const verb = good === 1 ? "is" : "are";
  const byWords = claims.some((claim) => WORDS.has(claim.verdict));
  const count = `${good} of ${claims.length} ${verb}`;
  if (byWords) return `${count} named in what is known of the item; looked up by words, not by meaning.`;
  return `${count} backed by what is known of the item.`;
}
