// Requests to the HTTP API, with the key of this tab, and what that key may do.

import { learnClock } from "./format.js";
import { parse } from "./json.js";

/** The API lies beside the dashboard, also behind a proxy that adds a prefix to the paths. */
const ROOT = new URL("../", import.meta.url);
const KEY = "drover-key";
/** The time limit of a reading, and of a change, which may concern a million messages. */
const READ_LIMIT = 10_000;
const CHANGE_LIMIT = 300_000;

/** The API refused a request. */
export class Refused extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail ?? `The API answered ${status}.`);
    Object.assign(this, { status, code: problem.code ?? "", errors: problem.errors ?? [], retryAfter });
  }
}

/** The API gave no answer, or it has no Redis. */
export class Away extends Error {}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

let rights = { id: null, scopes: [], queues: [] };

/** Reads what the key may do. */
export async function learnRights() {
  rights = await get("v1/key");
  return rights;
}

/** Whether the key has a scope on a queue, or on any queue. */
export const may = (scope, queue) =>
  rights.scopes.includes(scope) &&
  (queue === undefined ||
    rights.queues.some((name) => (name.endsWith("*") ? queue.startsWith(name.slice(0, -1)) : name === queue)));

/** The path of a queue, or of something in it. */
export const path = (queue, ...parts) => ["v1/queues", ...[queue, ...parts].map(encodeURIComponent)].join("/");

async function send(method, target, { query = {}, body, headers = {}, signal } = {}) {
  const url = new URL(target, ROOT);
  for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers = { ...headers, authorization: `Bearer ${key}` };
  if (body !== undefined) headers = { "content-type": "application/json", ...headers };
  let answer;
  try {
    answer = await fetch(url, { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("The API does not answer.");
  }
  learnClock(answer.headers.get("date"));
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  if (problem.code === "unavailable") throw new Away("The API answers, but Redis is not available.");
  throw new Refused(answer.status, problem, Number(answer.headers.get("retry-after")) || 1);
}

/** Sends a request, and returns the parsed answer. */
export async function call(method, target, options = {}) {
  const limit = method === "GET" ? READ_LIMIT : CHANGE_LIMIT;
  const answer = await send(method, target, { signal: AbortSignal.timeout(limit), ...options });
  try {
    const text = await answer.text();
    return text === "" ? null : parse(text);
  } catch {
    throw new Away("The answer of the API broke off.");
  }
}

export const get = (target, query) => call("GET", target, { query });
export const post = (target, query) => call("POST", target, { query });

const MAX_EVENT = 1_000_000;
/** After so much silence the stream is dead: the API sends at least a comment every 15 seconds. */
const SILENCE = 35_000;

/** For each queue the id from which this tab knows its events: an event that Drover keeps until ten minutes after the last listener. */
const starts = new Map();

/** The place from which all events of a queue follow that happened since this tab first listened to the queue. */
export const startOf = (queue) => starts.get(queue) ?? "";

/**
 * Follows the events of a queue, or of one of its messages, after the id `place.last`, until `signal` is aborted: calls
 * `onEvent({event, data})` for each, and `onState(text)` when the stream begins (null) or ends (the reason). An `EventSource` can't
 * send a key, so this reads the stream itself.
 */
export async function follow(queue, message, place, { onEvent, onState, signal }) {
  let pause = 1_000;
  while (!signal.aborted) {
    const silent = new AbortController();
    let timer;
    const hear = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE);
    };
    hear();
    try {
      const headers = place.last === "" ? {} : { "last-event-id": place.last };
      const answer = await send("GET", path(queue, "events"), { query: { message }, headers, signal: AbortSignal.any([signal, silent.signal]) });
      onState(null);
      pause = 1_000;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        hear();
        if (done || rest.length > MAX_EVENT) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
          if (fields.id !== undefined) place.last = fields.id;
          if (!starts.has(queue) || fields.event === "reset") starts.set(queue, place.last);
          if (fields.event !== undefined) onEvent({ event: fields.event, data: parse(fields.data ?? "{}") });
        }
      }
      onState("The stream ended.");
    } catch (error) {
      if (signal.aborted) return;
      onState(error instanceof Refused || error instanceof Away ? error.message : "The stream broke off.");
      if (error instanceof Refused) {
        pause = Math.max(pause, error.retryAfter * 1_000);
        if (error.status < 429) return;
      }
    } finally {
      clearTimeout(timer);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, 15_000);
  }
}
