// One message, live: its data and result, its timeline and its actions.

import { follow, get, may, path } from "./api.js";
import { el, facts, foreign, pill, setText } from "./dom.js";
import { duration, relative } from "./format.js";
import { block } from "./json.js";
import { messageActions, moment } from "./messages.js";

const MAX_SEEN = 200;

/** What an event means for the message. */
const EVENTS = {
  signalled: "Released by its signal", promoted: "Became ready", progress: "Reported progress", released: "Given back without an attempt",
  lapsed: "The lease lapsed", started: "Started", retried: "The attempt failed, and another follows", completed: "Completed", failed: "Failed",
};

const failure = ({ code, message }) => el("span", { class: "failure" }, foreign(`${code}: ${message}`));

/** The entries of the timeline that the message itself tells, each with its kind and instant. */
function told(message) {
  const { state, created_at, due_at, started_at, finished_at, expires_at, hold, consumer, error, attempts_made: attempts } = message;
  const isFinished = finished_at !== null;
  const isFuture = state === "delayed";
  return [
    ["posted", created_at, "Posted", hold !== null && el("span", {}, "waits for the signal ", foreign(hold))],
    due_at !== null && (isFuture || due_at > created_at) &&
      ["due", due_at, isFuture ? (attempts > 0 ? "Next attempt is due" : "Due") : "Was due"],
    started_at !== null && ["started", started_at, "Started", consumer !== null && el("span", {}, "by ", foreign(consumer))],
    error !== null && !isFinished && ["retried", error.at, `Attempt ${error.attempt} failed`, failure(error)],
    isFinished && [state, finished_at, state === "completed" ? "Completed" : "Failed", error !== null && failure(error)],
    expires_at !== null && !isFinished && ["expires", expires_at, "Expires if it has not started"],
  ].filter(Boolean);
}

/** The entries of the timeline that events told while the page was open. */
const seen = ({ event, data }) =>
  EVENTS[event] && [event, data.at,
    event === "retried" && data.attempt ? `Attempt ${data.attempt} failed, another follows` : EVENTS[event],
    data.error ? failure(data.error) : event === "started" && data.consumer ? el("span", {}, "by ", foreign(data.consumer)) : null];

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
  const node = el("section", {},
    el("nav", { class: "crumbs", "aria-label": "Where you are" },
      el("a", { href: "#/queues" }, "Queues"), " / ", el("a", { href: address }, foreign(queue)), " / "),
    el("div", { class: "head" }, el("h1", { tabindex: -1 }, foreign(id)), state, actions), error, content);

  const events = [];
  const closing = new AbortController();
  if (may("read", queue)) {
    follow(queue, id, {
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

  function showTimeline(message) {
    const all = new Map();
    for (const entry of [...events.map(seen).filter(Boolean), ...told(message)]) {
      const key = `${entry[0]} ${entry[1]}`;
      all.set(key, entry);
    }
    const sorted = Array.from(all.values()).sort((one, other) => Date.parse(one[1]) - Date.parse(other[1]));
    timeline.replaceChildren(...sorted.map(([kind, at, label, more]) =>
      el("li", { class: Date.parse(at) > Date.now() + 1_000 ? `${kind} future` : kind },
        el("b", {}, label), el("span", { class: "at" }, moment(at), ` · ${relative(at)}`), more)));
  }

  return {
    title: id,
    node,
    async refresh() {
      const message = await get(path(queue, "messages", id));
      error.hidden = true;
      content.hidden = false;
      showTimeline(message);
      if (shownState !== message.state) {
        shownState = message.state;
        const hadFocus = actions.contains(document.activeElement);
        state.replaceChildren(pill(message.state));
        actions.replaceChildren(...messageActions(queue, message, (name) => {
          if (name === "erase") location.hash = address;
          else refreshNow();
        }, ""));
        if (hadFocus) (actions.querySelector("button") ?? node.querySelector("h1")).focus();
      }
      const text = JSON.stringify(message);
      if (text === shown) return;
      shown = text;
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
      shownState = null;
      state.replaceChildren();
      actions.replaceChildren();
      setText(error, refusal.message);
    },
    close: () => closing.abort(),
  };
}
