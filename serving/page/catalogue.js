/** Users and items of the model, as the page asks for them; titles are remembered. */

import { ask } from "./api.js";

const LIMIT = 20;
const titles = new Map();

/** Remembers titles of rows that have them. */
export function remember(rows) {
  for (const row of rows) if (row.title) titles.set(row.item_id, row.title);
}

/** What an item is called; its id where no title is known. */
export function titleOf(itemId) {
  return titles.get(itemId) || itemId;
}

/** Users whose ids hold the query, as options of a combobox. */
export async function searchUsers(query, signal, limit = LIMIT) {
  const found = await ask(`v1/users?query=${encodeURIComponent(query)}&limit=${limit}`, { signal });
  return { options: found.users.map((row) => ({ value: row.user_id, label: row.user_id })), total: found.total };
}

/** Items whose titles or ids hold the query, as options of a combobox. */
export async function searchItems(query, signal, limit = LIMIT) {
  const found = await ask(`v1/items?query=${encodeURIComponent(query)}&limit=${limit}`, { signal });
  remember(found.items);
  const option = ({ item_id: value, title }) => ({ value, label: title || value, note: title ? value : "" });
  return { options: found.items.map(option), total: found.total };
}

/** The training items of a user: their ids; none where the server has no data. */
export async function historyOf(userId, signal) {
  const found = await ask(`v1/users/${encodeURIComponent(userId)}`, { signal });
  remember(found.history);
  return found.history.map((row) => row.item_id);
}

/** Asks for the titles of items that came by the address. */
export async function learnTitles(itemIds, signal) {
  const unknown = itemIds.filter((id) => !titles.has(id));
  await Promise.all(unknown.map((id) => searchItems(id, signal, 100)));
}

/**
 * The best items of a user or a history.
 * @param {{user?: ?string, history?: ?string[]}} who
 * @param {number} k
 * @param {string[]} [exclude] items to leave out besides.
 */
export async function recommend(who, k, signal, exclude = []) {
  const given = who.user ? { user_id: who.user } : { history: who.history };
  const more = exclude.length ? { exclude } : {};
  const found = await ask("v1/recommend", { body: { ...given, k, ...more }, signal });
  remember(found.items);
  return found;
}
