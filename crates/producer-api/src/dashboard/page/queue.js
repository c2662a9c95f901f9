// One queue: its state and rates, and tabs for its messages, schedules, signals, events and settings.

import { get, may, path } from "./api.js";
import { el, foreign, keepFocus, setText } from "./dom.js";
import { eventsTab } from "./events.js";
import { duration, exact, rate, visible } from "./format.js";
import { messagesTab } from "./messages.js";
import { newest, observe, pauseButton, sparkline } from "./queues.js";
import { schedulesTab } from "./schedules.js";
import { settingsTab } from "./settings.js";
import { signalsTab } from "./signals.js";

const TABS = { messages: messagesTab, schedules: schedulesTab, signals: signalsTab, events: eventsTab, settings: settingsTab };

export function queueView(queue, name, query, refreshNow) {
  const address = `#/queues/${encodeURIComponent(queue)}`;
  const tab = (TABS[name] ?? messagesTab)(queue, query, refreshNow);
  const paused = el("span", { class: "pill paused", hidden: true }, "Paused");
  const actions = el("div", { class: "buttons" });
  const chart = sparkline("wave");
  const numbers = Object.fromEntries(["posted", "finished", "oldest"].map((key) => [key, el("b", {}, "–")]));
  const schedules = el("span", { class: "badge", hidden: true });
  const link = (key, label) =>
    el("a", { href: key === "messages" ? address : `${address}/${key}`, "aria-current": key === name ? "page" : null }, label);
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const content = el("div", {},
    el("div", { class: "pulse card" }, el("figure", {}, el("figcaption", {}, "The last minute"), chart.node),
      el("div", { class: "tiles" },
        el("div", { class: "tile posted" }, numbers.posted, el("span", {}, "Posted/s")),
        el("div", { class: "tile rate" }, numbers.finished, el("span", {}, "Finished/s")),
        el("div", { class: "tile" }, numbers.oldest, el("span", {}, "Oldest waiting")))),
    el("nav", { class: "tabs", "aria-label": "Parts of the queue" },
      link("messages", "Messages"), link("schedules", ["Schedules ", schedules]), link("signals", "Signals"),
      link("events", "Events"), link("settings", "Settings")),
    tab.node);
  const head = el("div", { class: "head" }, el("h1", { tabindex: -1 }, foreign(queue)), paused, actions);
  const node = el("section", {},
    el("nav", { class: "crumbs", "aria-label": "Where you are" }, el("a", { href: "#/queues" }, "Queues"), " / "),
    head, error, content);
  let shownPaused;

  return {
    title: queue,
    node,
    async refresh() {
      const [status] = await Promise.all([get(path(queue)), tab.refresh?.()]);
      error.hidden = true;
      content.hidden = false;
      chart.update(observe(status));
      setText(numbers.posted, rate(newest(queue, "posted")));
      setText(numbers.finished, rate(newest(queue, "finished")));
      setText(numbers.oldest, status.oldest_waiting_age === null ? "–" : duration(status.oldest_waiting_age));
      schedules.hidden = status.schedules === 0;
      setText(schedules, exact(status.schedules));
      tab.show?.(status);
      if (shownPaused === status.paused) return;
      shownPaused = status.paused;
      paused.hidden = !status.paused;
      keepFocus(head, () => actions.replaceChildren(...[
        pauseButton(status, refreshNow, ""),
        may("enqueue", queue) && el("a", { class: "button primary", href: `#/post?queue=${encodeURIComponent(queue)}` }, "Post a message"),
      ].filter(Boolean)));
    },
    refused(refusal) {
      if (tab.refused?.(refusal)) return;
      error.hidden = false;
      content.hidden = refusal.code === "queue_not_found";
      setText(error, visible(refusal.message));
    },
    close: () => tab.close?.(),
  };
}
