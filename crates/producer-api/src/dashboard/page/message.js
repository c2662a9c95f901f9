// One message, live: its data and result, its timeline and its actions.

import { messageActions } from "./actions.js";
import { follow, get, may, path, startOf } from "./api.js";
import { el, facts, foreign, keepFocus, pill, reconcile, setText } from "./dom.js";
import { duration, relative, visible } from "./format.js";
import { block } from "./json.js";
import { moment } from "./messages.js";

const MAX_SEEN = 200;
const MAX_MESSAGES = 100;

/** What the events told of the messages that this tab has shown, by the path of the message. */
const histories = new Map();

function historyOf(queue, id) {
  const key = path(queue, "messages", id);
  const history = histories.get(key) ?? { events: [], place: { last: startOf(queue) } };
  histories.delete(key);
  histories.set(key, history);
  if (histories.size > MAX_MESSAGES) histories.delete(histories.keys().next().value);
  return history;
}

/** What an event means for the message. */
const EVENTS = {
  enqueued: "Changed", signalled: "Released by its signal", promoted: "Became ready", progress: "Reported progress",
  released: "Given back without an attempt", lapsed: "The lease lapsed", started: "Started", retried: "Made ready again",
  completed: "Completed", failed: "Failed",
};

const attemptFailed = (attempt) => `Attempt ${attempt} failed, another follows`;

const failure = ({ code, message }) => el("span", { class: "failure" }, foreign(`${code}: ${message}`));

/** The kinds of entries that tell of a failure. */
const FAILURES = ["retried", "lapsed", "failed"];
const LAPSED = "lease_lapsed";

/** The errors after which the message went on, the oldest first. */
const earlierErrors = ({ earlier_errors: earlier = [], error, finished_at }) =>
  (error === null || finished_at !== null ? earlier : [...earlier, error]);

/** The entries of the timeline that the message itself tells, each with its kind and instant. */
function told(message) {
  const { state, created_at, due_at, started_at, finished_at, expires_at, hold, consumer, error, attempts_made: attempts } = message;
  const isFinished = finished_at !== null;
  const isFuture = state === "delayed";
  return [
    ...earlierErrors(message).map((earlier) => (earlier.code === LAPSED
      ? ["lapsed", earlier.at, EVENTS.lapsed]
      : ["retried", earlier.at, attemptFailed(earlier.attempt), failure(earlier)])),
    ["posted", created_at, "Posted", hold !== null && el("span", {}, "waits for the signal ", foreign(hold))],
    due_at !== null && (isFuture || due_at > created_at) &&
      ["due", due_at, isFuture ? (attempts > 0 ? "Next attempt is due" : "Due") : "Was due"],
    started_at !== null && ["started", started_at, "Started", consumer !== null && el("span", {}, "by ", foreign(consumer))],
    isFinished && [state, finished_at, state === "completed" ? "Completed" : "Failed", error !== null && failure(error)],
    expires_at !== null && !isFinished && ["expires", expires_at, "Expires if it has not started"],
  ].filter(Boolean);
}

/** The entries of the timeline that events told. */
const seen = ({ event, data }) =>
  EVENTS[event] && [event, data.at,
    event === "retried" && data.error ? attemptFailed(data.attempt) : EVENTS[event],
    data.error ? failure(data.error) : event === "started" && data.consumer ? el("span", {}, "by ", foreign(data.consumer)) : null];

/** The entry for failed attempts of which neither the message nor an event tells. */
function untold(message, events) {
  const { attempts_made, state, error, created_at } = message;
  const attempts = [...earlierErrors(message), error].filter((told) => told !== null && told.code !== LAPSED);
  for (const { event, data } of events) {
    if (event === "retried" || event === "failed") attempts.push(event === "retried" && !data.error ? { attempt: 0, at: data.at } : data);
  }
  const known = new Set();
  let last = 0;
  for (const { attempt } of attempts.sort((one, other) => Date.parse(one.at) - Date.parse(other.at))) {
    // After a retry on request the attempts begin again.
    if (attempt < last) known.clear();
    known.add(last = attempt);
  }
  const failures = attempts_made - (state === "completed" ? 1 : 0);
  const missing = Array.from({ length: failures }, (_, index) => index + 1).filter((attempt) => !known.has(attempt));
  if (missing.length === 0) return null;
  const isRange = missing.at(-1) - missing[0] === missing.length - 1;
  const label = missing.length === 1 ? `Attempt ${missing[0]} failed`
    : isRange ? `Attempts ${missing[0]} to ${missing.at(-1)} failed` : `${missing.length} other attempts failed`;
  return ["earlier", created_at, label, el("span", { class: "at" }, "Drover keeps the last errors only.")];
}

export function messageView(queue, id, refreshNow) {
  const address = `#/queues/${encodeURIComponent(queue)}`;
  const state = el("span", {});
  const actions = el("div", { class: "buttons" });
  const bodies = el("div", { class: "bodies" });
  const timeline = el("ol", { class: "timeline" });
  const details = el("div", {});
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const content = el("div", { class: "message" }, bodies,
    el("div", { class: "aside" }, el("section", { class: "card" }, el("h2", {}, "Timeline"), timeline),
      el("section", { class: "card" }, el("h2", {}, "Details"), details)));
  const heading = el("h1", { tabindex: -1 }, foreign(id));
  const head = el("div", { class: "head" }, heading, state, actions);
  const node = el("section", {},
    el("nav", { class: "crumbs", "aria-label": "Where you are" },
      el("a", { href: "#/queues" }, "Queues"), " / ", el("a", { href: address }, foreign(queue)), " / "), head, error, content);

  const { events, place } = historyOf(queue, id);
  const closing = new AbortController();
  if (may("read", queue)) {
    follow(queue, id, place, {
      signal: closing.signal,
      onState: () => {},
      onEvent: (event) => {
        if (events.push(event) > MAX_SEEN) events.shift();
        refreshNow();
      },
    });
  }
  let shown = "";
  let shownState = null;

  const createEntry = ([, at, label, more]) => {
    const distance = document.createTextNode("");
    const entry = el("li", {}, el("b", {}, label), el("span", { class: "at" }, moment(at), " · ", distance), more);
    entry.update = ([kind]) => {
      entry.className = Date.parse(at) > Date.now() + 1_000 ? `${kind} future` : kind;
      setText(distance, relative(at));
    };
    return entry;
  };
  const createNote = ([kind, , label, more]) => Object.assign(el("li", { class: kind }, el("b", {}, label), more), { update: () => {} });

  function showTimeline(message) {
    // An own id may be used again, and then the events of the earlier message are none of this one.
    const own = events.filter(({ data }) => data.at > message.created_at);
    const all = new Map();
    // An event has more of an error's text than the list of earlier errors, so the event replaces its entry.
    for (const entry of [...told(message), ...own.map(seen), untold(message, own)].filter(Boolean)) {
      all.set(`${FAILURES.includes(entry[0]) ? "failure" : entry[0]} ${entry[1]}`, entry);
    }
    const sorted = Array.from(all.values()).sort((one, other) => Date.parse(one[1]) - Date.parse(other[1]));
    reconcile(timeline, sorted, ([kind, at, label]) => `${kind} ${at} ${label}`,
      (entry) => (entry[0] === "earlier" ? createNote(entry) : createEntry(entry)));
  }

  function showActions(message) {
    const hadFocus = actions.contains(document.activeElement);
    keepFocus(head, () => actions.replaceChildren(...messageActions(queue, message, (name) => {
      if (name === "erase") location.hash = address;
      else refreshNow();
    }, { isOnPage: true })));
    // Another action took the place of the one that has the focus, and must not be started by a key that is still pressed.
    if (hadFocus && shownState !== message.state) heading.focus();
    shownState = message.state;
  }

  return {
    title: visible(id),
    node,
    async refresh() {
      const message = await get(path(queue, "messages", id));
      error.hidden = true;
      content.hidden = false;
      showTimeline(message);
      const text = JSON.stringify(message);
      if (text === shown) return;
      shown = text;
      state.replaceChildren(pill(message.state));
      showActions(message);
      const part = (label, value) => el("section", { class: "card" }, el("h2", {}, label), block(value, label));
      bodies.replaceChildren(...[
        message.error !== null && el("section", { class: "card broken" }, el("h2", {}, "Error"),
          el("p", { class: "code" }, foreign(message.error.code)), el("pre", { tabindex: 0, role: "region", "aria-label": "Error" }, foreign(message.error.message))),
        message.state === "completed" && part("Result", message.result),
        part("Data", message.data),
        message.progress !== null && part("Progress", message.progress),
        message.signal !== undefined && part("Signal", message.signal),
        Object.keys(message.headers).length > 0 && part("Headers", message.headers),
      ].filter(Boolean));
      const optional = (value) => value !== null && value !== undefined && foreign(value);
      details.replaceChildren(facts([
        ["name", optional(message.name)], ["group", optional(message.group)], ["schedule", optional(message.schedule)],
        ["priority", String(message.priority)], ["attempts", `${message.attempts_made} of ${message.max_attempts}`],
        ["deliveries", String(message.deliveries)], ["lapses", String(message.lapses)],
        ["delay", message.delay > 0 && duration(message.delay)], ["hold", optional(message.hold)], ["consumer", optional(message.consumer)],
      ].filter(([, value]) => value !== false)));
    },
    refused(refusal) {
      error.hidden = false;
      content.hidden = refusal.status === 404;
      shown = "";
      state.replaceChildren();
      keepFocus(head, () => actions.replaceChildren());
      setText(error, visible(refusal.message));
    },
    close: () => closing.abort(),
  };
}
