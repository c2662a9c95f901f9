// The live tail of a queue's events.

import { follow } from "./api.js";
import { button, el, foreign, keepFocus, setText } from "./dom.js";
import { timeOfDay } from "./format.js";
import { preview } from "./json.js";

const MAX_ROWS = 200;
const COLOURS = {
  enqueued: "waiting", signalled: "waiting", promoted: "waiting", started: "active", progress: "active", completed: "completed",
  failed: "failed", retried: "delayed", released: "delayed", lapsed: "failed", erased: "held", reset: "held",
};
const SHOWN = ["id", "at", "state", "name"];

export function eventsTab(queue) {
  const rows = el("ol", { class: "events", "aria-label": "Events, the newest first" });
  const status = el("span", { class: "note", role: "status" }, "Connecting …");
  const empty = el("p", { class: "empty" }, "No event yet. Each change of a message appears here.");
  let isPaused = false;
  let missed = 0;
  const say = () => setText(status, isPaused ? `Stopped: ${missed} events were not shown.` : "Live");
  const stop = button("Stop", () => {
    isPaused = !isPaused;
    missed = 0;
    setText(stop, isPaused ? "Go on" : "Stop");
    say();
  });
  const clear = button("Clear", () => {
    rows.replaceChildren();
    empty.hidden = false;
  }, { class: "quiet" });
  const waiting = [];
  const row = ({ event, data }) => {
    const more = Object.fromEntries(Object.entries(data).filter(([name]) => !SHOWN.includes(name)));
    const address = `#/queues/${encodeURIComponent(queue)}/message/${encodeURIComponent(data.id)}`;
    return el("li", {},
      el("time", { datetime: data.at }, data.at ? timeOfDay(data.at) : ""),
      el("span", { class: `pill ${COLOURS[event] ?? "held"}` }, event),
      data.id !== undefined && el("a", { href: address }, foreign(data.id)),
      data.name ? foreign(data.name, { class: "sub" }) : null,
      Object.keys(more).length > 0 && el("code", {}, preview(more, 200)));
  };
  const showWaiting = () => {
    const news = waiting.splice(0).reverse().map(row);
    empty.hidden = empty.hidden || news.length > 0;
    keepFocus(rows, () => {
      rows.prepend(...news);
      while (rows.children.length > MAX_ROWS) rows.lastChild.remove();
    });
  };
  const closing = new AbortController();
  follow(queue, undefined, { last: "" }, {
    signal: closing.signal,
    onState: (reason) => (reason === null ? say() : setText(status, `${reason} The page tries again.`)),
    onEvent({ event, data }) {
      if (isPaused) {
        missed += 1;
        return say();
      }
      // At a high rate of events, the page creates rows only for the newest events, and once for each frame of the screen.
      waiting.push({ event, data });
      if (waiting.length > MAX_ROWS) waiting.shift();
      if (waiting.length === 1) requestAnimationFrame(showWaiting);
      return undefined;
    },
  });
  return {
    node: el("div", {}, el("div", { class: "toolbar" }, status, el("div", { class: "buttons" }, stop, clear)), empty, rows),
    close: () => closing.abort(),
  };
}
