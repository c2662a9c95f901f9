// One queue: its state and rates, and tabs for its messages, schedules, events and settings.

import { call, get, may, path } from "./api.js";
import { button, el, facts, field, foreign, openDialog, setText, toast } from "./dom.js";
import { eventsTab } from "./events.js";
import { count, duration, exact, rate } from "./format.js";
import { block } from "./json.js";
import { messagesTab } from "./messages.js";
import { newest, observe, pauseButton, sparkline } from "./queues.js";
import { schedulesTab } from "./schedules.js";

const TABS = { messages: messagesTab, schedules: schedulesTab, events: eventsTab, settings: settingsTab };

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
    el("div", { class: "pulse card" }, chart.node,
      el("div", { class: "tiles" },
        el("div", { class: "tile" }, numbers.posted, el("span", {}, "Posted/s")),
        el("div", { class: "tile rate" }, numbers.finished, el("span", {}, "Finished/s")),
        el("div", { class: "tile" }, numbers.oldest, el("span", {}, "Oldest waiting")))),
    el("nav", { class: "tabs", "aria-label": "Parts of the queue" },
      link("messages", "Messages"), link("schedules", ["Schedules ", schedules]), link("events", "Events"), link("settings", "Settings")),
    tab.node);
  const node = el("section", {},
    el("nav", { class: "crumbs", "aria-label": "Where you are" }, el("a", { href: "#/queues" }, "Queues"), " / "),
    el("div", { class: "head" }, el("h1", { tabindex: -1 }, foreign(queue)), paused, actions),
    error, content);
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
      const hadFocus = actions.contains(document.activeElement);
      actions.replaceChildren(...[
        pauseButton(status, refreshNow, ""),
        may("enqueue", queue) && el("a", { class: "button primary", href: `#/post?queue=${encodeURIComponent(queue)}` }, "Post a message"),
      ].filter(Boolean));
      if (hadFocus) actions.querySelector("button")?.focus();
    },
    refused(refusal) {
      if (tab.refused?.(refusal)) return;
      error.hidden = false;
      content.hidden = refusal.code === "queue_not_found";
      setText(error, refusal.message);
    },
    close: () => tab.close?.(),
  };
}

/** The settings of a queue, and a form that changes them. */
function settingsTab(queue, _, refreshNow) {
  const list = el("div", { class: "card" });
  let shown = "";
  const durations = new Set(["visibility_timeout", "timeout", "idempotency_window", "id_window"]);
  const value = (name, setting) => {
    if (setting === null) return "none";
    if (durations.has(name)) return duration(setting);
    if (name === "backoff") return `${setting.type}: ${duration(setting.delay)} to ${duration(setting.max)}, jitter ${setting.jitter}`;
    if (name === "rate_limit") return `${exact(setting.max)} in ${duration(setting.duration)}`;
    if (name === "groups") return setting.concurrency === null ? "turns without a limit" : `${setting.concurrency} active for each group`;
    if (name === "retention") {
      return el("ul", {}, Object.entries(setting).map(([state, kept]) =>
        el("li", {}, `${state}: ${duration(kept.age)}, the last ${exact(kept.count)}, at least ${duration(kept.min_age)}`)));
    }
    if (typeof setting === "object") return block(setting, name);
    return typeof setting === "number" ? exact(setting) : String(setting);
  };
  const change = () => {
    const input = el("textarea", { rows: 6, spellcheck: "false", required: true }, '{"max_attempts": 5}');
    const error = el("p", { class: "error", role: "alert", hidden: true });
    const form = el("form", {}, field("Settings to change, as JSON", input, "An absent setting stays; null restores the default."),
      error, el("div", { class: "buttons" }, button("Cancel", () => dialog.close()), el("button", { class: "primary" }, "Change")));
    const dialog = openDialog(`Settings of ${queue}`, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        await call("PATCH", path(queue), { body: input.value, headers: { "content-type": "application/merge-patch+json" } });
        dialog.close();
        toast("The settings were changed.");
        refreshNow();
      } catch (refusal) {
        error.hidden = false;
        setText(error, refusal.message);
      }
    });
  };
  return {
    node: el("div", {}, may("manage", queue) && el("div", { class: "toolbar" }, button("Change settings", change)), list),
    show({ settings, totals }) {
      const text = JSON.stringify([settings, totals]);
      if (text === shown) return;
      shown = text;
      const words = (name) => name.replaceAll("_", " ");
      list.replaceChildren(
        el("h2", {}, "Settings"), facts(Object.entries(settings).map(([name, setting]) => [words(name), value(name, setting)])),
        el("h2", {}, "Since the queue was created"), facts(Object.entries(totals).map(([name, number]) => [words(name), count(number)])));
    },
  };
}
