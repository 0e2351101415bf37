/**
 * What the page shows, as its address says it: `#user=…&item=…` or `#history=…&history=…`.
 *
 * @typedef {Object} State
 * @property {?string} user a stored user; null with a history.
 * @property {?string[]} history items that somebody unknown to the model liked; null with a user.
 * @property {?string} item whose explanation is shown.
 * @property {string[]} without history items left out in "what if".
 * @property {?string} swap another user in "what if".
 * @property {boolean} keep whether "what if" keeps the user's profile text.
 */

export const NOTHING = Object.freeze({ user: null, history: null, item: null, without: [], swap: null, keep: true });

/** The state that an address names. */
export function read(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const history = given.has("history") ? [...new Set(given.getAll("history").filter(Boolean))] : null;
  return {
    user: history ? null : given.get("user") || null,
    history,
    item: given.get("item") || null,
    without: [...new Set(given.getAll("without").filter(Boolean))],
    swap: given.get("swap") || null,
    keep: given.get("keep") !== "0",
  };
}

/** The address that names a state. */
export function write(state) {
  const said = new URLSearchParams();
  if (state.user) said.append("user", state.user);
  for (const item of state.history ?? []) said.append("history", item);
  if (state.history?.length === 0) said.append("history", "");
  if (state.item) said.append("item", state.item);
  for (const item of state.without) said.append("without", item);
  if (state.swap) said.append("swap", state.swap);
  if (!state.keep) said.append("keep", "0");
  return `#${said}`;
}

/** Whether two states are of the same user, or the same history. */
export function sameWho(one, other) {
  return one.user === other.user && JSON.stringify(one.history) === JSON.stringify(other.history);
}

/** The row of POST /v1/explain that a state asks for. */
export function rowOf(state, item = state.item) {
  return state.user ? { user_id: state.user, item_id: item } : { history: state.history, item_id: item };
}

/** The body of POST /v1/explain for one such row. */
export function bodyOf(state) {
  return { [state.user ? "pairs" : "histories"]: [rowOf(state)] };
}
