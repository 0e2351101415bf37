/** What a score rests on: bars that add up to it, by what the user did and by who else chose the item. */

import { remember, titleOf } from "./catalogue.js";
import { el, figure, fill, listed, percent, waiting } from "./dom.js";

const TOLERANCE = 1e-3;
const ADDED =
  "Both add up to the score; each figure is rounded by itself. A bar to the left speaks against the item. An own part is " +
  "what was learned of the user, or of the item, beyond anybody's choices.";

/** Shows that an answer is awaited. */
export function evidenceWaits(root) {
  fill(root, waiting("Waiting for the explanation", 5));
}

/** Shows that there is nothing to show. */
export function noEvidence(root) {
  fill(root, el("p", { class: "note" }, "Nothing yet."));
}

/**
 * Shows a score's parts.
 * @param {HTMLElement} root
 * @param {Object} answer of POST /v1/explain, with evidence where the server has data.
 */
export function showEvidence(root, answer) {
  const parts = answer.evidence;
  if (!parts) {
    const why = "The server has no data, so there is no evidence: what this score rests on cannot be said.";
    fill(root, el("p", { class: "note" }, why));
    return;
  }
  remember(parts.history);
  const intro =
    "The score is the inner product of two places in the graph of who chose what. It can be taken apart exactly, in two ways:";
  fill(
    root,
    el("p", { class: "note" }, intro),
    el("div", { class: "columns" }, historyChart(parts, answer), userChart(parts)),
    el("p", { class: "note" }, adding(parts)),
  );
}

function historyChart(parts, answer) {
  const rows = parts.history.map((entry) => ({ name: titleOf(entry.item_id), share: entry.share, below: links(entry.paths) }));
  if (answer.user_id) rows.push({ name: "The user's own part", share: parts.own, faint: true });
  rows.push({ name: "Other items of the history", share: parts.history_rest, faint: true });
  return chart("By what the user chose before", rows, parts.score);
}

function userChart(parts) {
  const rows = parts.users.map((entry) => ({ name: userLink(entry.user_id), share: entry.share }));
  rows.push({ name: "The item's own part", share: parts.item_own, faint: true });
  rows.push({ name: "Other users of the item", share: parts.users_rest, faint: true });
  return chart("By who else chose this item", rows, parts.score);
}

function links(paths) {
  if (!paths.length) return el("span", { class: "soft" }, "nobody chose both");
  const names = paths.flatMap((path, at) => [at ? ", " : "", userLink(path.user_id)]);
  return el("span", { class: "soft" }, "linked by ", names);
}

function userLink(userId) {
  return el("a", { href: `#${new URLSearchParams({ user: userId })}` }, userId);
}

function chart(title, rows, score) {
  const shares = rows.map((row) => row.share);
  const [low, high] = [Math.min(0, ...shares), Math.max(0, ...shares)];
  const span = high - low || 1;
  const all = score > TOLERANCE ? score : null;
  const bars = rows.map((row) => bar(row, (row.share < 0 ? row.share : 0) - low, span, -low / span, all));
  const sum = el(
    "li",
    { class: "bar-row bar-sum" },
    el("span", { class: "bar-name" }, "Score"),
    el("span", { class: "bar-value" }, figure(score), all ? el("span", { class: "bar-percent" }, percent(1)) : null),
  );
  return el("div", {}, el("h3", {}, title), el("ul", { class: "bars" }, bars, sum));
}

function bar(row, start, span, zero, all) {
  const track = el("span", { class: "bar-track", "aria-hidden": "true" });
  const body = el("span", { class: `bar-body ${row.share < 0 ? "against" : row.faint ? "faint" : "for"}` });
  body.style.setProperty("--start", String(start / span));
  body.style.setProperty("--length", String(Math.abs(row.share) / span));
  track.style.setProperty("--zero", String(zero));
  track.append(body);
  const share = all ? el("span", { class: "bar-percent" }, percent(row.share / all)) : null;
  return el(
    "li",
    { class: row.faint ? "bar-row is-faint" : "bar-row" },
    el("span", { class: "bar-name" }, row.name, row.below ? el("span", { class: "bar-below" }, row.below) : null),
    el("span", { class: "bar-value" }, figure(row.share, true), share),
    track,
  );
}

/** Says whether the parts add up, having added them. */
function adding(parts) {
  const total = (rows) => rows.reduce((sum, row) => sum + row.share, 0);
  const sums = {
    "by what the user chose": parts.own + total(parts.history) + parts.history_rest,
    "by who else chose": parts.item_own + total(parts.users) + parts.users_rest,
  };
  const off = Object.entries(sums).filter(([, sum]) => Math.abs(sum - parts.score) > TOLERANCE);
  if (!off.length) return ADDED;
  const lines = off.map(([name, sum]) => `${name} ${figure(sum)}`);
  return `These parts do not add up to the score ${figure(parts.score)}: ${listed(lines)}.`;
}
