/** Requests to the server that gave this page, and their problems in one line. */

const KEY = "xrec-key";

/** Why there is no answer. */
export class Problem extends Error {
  /**
   * @param {string} line for whoever looks at the page.
   * @param {number} status of HTTP; 0 where the server was not reached or broke off.
   * @param {number} retryAfter seconds to wait; 0 where the server named none.
   */
  constructor(line, status = 0, retryAfter = 0) {
    super(line);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Keeps a key for this tab only. */
export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** Whether a key is kept. */
export function hasKey() {
  return Boolean(sessionStorage.getItem(KEY));
}

/**
 * Asks for JSON.
 * @param {string} path relative to the page, so that the server may stand behind a prefix.
 * @param {{body?: Object, signal?: AbortSignal}} [more] with a body it is a POST.
 * @throws {Problem} when there is no answer.
 */
export async function ask(path, { body, signal } = {}) {
  const response = await send(path, body, signal);
  try {
    return await response.json();
  } catch (error) {
    throw broken(error);
  }
}

/**
 * Asks for one explanation, word by word.
 * @param {Object} body of POST /v1/explain, with one row.
 * @param {{signal: AbortSignal, onText: function(string): void}} more `onText` takes each piece.
 * @returns {Promise<Object>} the whole answer.
 * @throws {Problem} when there is none.
 */
export async function stream(body, { signal, onText }) {
  const response = await send("v1/explain", { ...body, stream: true }, signal);
  try {
    for await (const [name, data] of events(response.body)) {
      if (name === "token") onText(data.text);
      if (name === "done") return data;
      if (name === "error") throw new Problem(data.detail);
    }
  } catch (error) {
    throw broken(error);
  }
  throw broken(null);
}

async function send(path, body, signal) {
  const headers = { accept: "application/json, text/event-stream" };
  if (hasKey()) headers.authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  const options = { headers, signal, cache: "no-store", credentials: "same-origin" };
  if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  if (body) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server cannot be reached; is it still running?");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const said = await response.json().catch(() => ({}));
  const detail = typeof said.detail === "string" ? said.detail : `the server answered ${response.status}`;
  const wait = Number(response.headers.get("retry-after")) || (response.status === 429 ? 2 : 0);
  return new Problem(detail, response.status, wait);
}

function broken(error) {
  if (error instanceof Problem || error?.name === "AbortError") return error;
  return new Problem("The answer broke off; the server or the network went away");
}

/** Names and data of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) yield parsed(block);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
  }
  return [fields.event, JSON.parse(fields.data ?? "null")];
}

/** Whether an error only says that nobody waits any more. */
export function isAbort(error) {
  return error?.name === "AbortError";
}
