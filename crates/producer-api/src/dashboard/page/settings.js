// The settings of a queue, a form that changes them, and the deletion of the queue.

import { call, may, path } from "./api.js";
import { button, checkJson, el, facts, field, input, openForm, toast } from "./dom.js";
import { count, duration, exact } from "./format.js";
import { block } from "./json.js";

const DURATIONS = new Set(["visibility_timeout", "timeout", "idempotency_window", "id_window"]);

function value(name, setting) {
  if (setting === null) return "none";
  if (DURATIONS.has(name)) return duration(setting);
  if (name === "backoff") return `${setting.type}: ${duration(setting.delay)} to ${duration(setting.max)}, jitter ${setting.jitter}`;
  if (name === "rate_limit") return `${exact(setting.max)} in ${duration(setting.duration)}`;
  if (name === "groups") return setting.concurrency === null ? "turns without a limit" : `${setting.concurrency} active for each group`;
  if (name === "retention") {
    return el("ul", {}, Object.entries(setting).map(([state, kept]) =>
      el("li", {}, `${state}: ${duration(kept.age)}, the last ${exact(kept.count)}, at least ${duration(kept.min_age)}`)));
  }
  if (typeof setting === "object") return block(setting, name);
  return typeof setting === "number" ? exact(setting) : String(setting);
}

function changeSettings(queue, settings, refreshNow) {
  const area = el("textarea", { rows: 16, spellcheck: "false", required: true }, JSON.stringify(settings, null, 2));
  const hint = "Durations are milliseconds, or texts such as \"1h 30m\"; null restores a default.";
  openForm(`Settings of ${queue}`, [field("Settings as JSON", area, hint)], "Change", async () => {
    checkJson("Settings", area);
    // Only what the user changed is sent: an equal value would replace a setting that another user has changed meanwhile.
    const changed = Object.entries(JSON.parse(area.value))
      .filter(([name, setting]) => JSON.stringify(setting) !== JSON.stringify(settings[name]));
    await call("PATCH", path(queue), {
      body: JSON.stringify(Object.fromEntries(changed)), headers: { "content-type": "application/merge-patch+json" },
    });
    toast(changed.length === 0 ? "No setting was changed." : "The settings were changed.");
    refreshNow();
  });
}

function deleteQueue(queue, unfinished) {
  const name = input({ required: true });
  const warning = el("p", {}, `Drover forgets the queue ${queue} with its settings, its schedules and all its messages, `,
    `${exact(unfinished)} of them unfinished. This can't be undone.`);
  openForm("Delete the queue?", [warning, field("Name of the queue, to confirm", name)], "Delete", async () => {
    await call("DELETE", path(queue), { query: { confirm: name.value.trim() } });
    toast(`The queue ${queue} was deleted.`);
    location.hash = "#/queues";
  }, "danger");
}

export function settingsTab(queue, _, refreshNow) {
  const list = el("div", { class: "card" });
  let shown = "";
  let status = null;
  const unfinished = ({ held, delayed, waiting, active }) => held + delayed + waiting + active;
  const buttons = may("manage", queue) && el("div", { class: "toolbar" },
    button("Change settings", () => status && changeSettings(queue, status.settings, refreshNow)),
    button("Delete the queue", () => status && deleteQueue(queue, unfinished(status.counts)), { class: "danger" }));
  return {
    node: el("div", {}, buttons, list),
    show(read) {
      status = read;
      const { settings, totals } = read;
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
