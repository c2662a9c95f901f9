// The settings of a queue, a form that changes them, and the deletion of the queue.

import { call, may, path } from "./api.js";
import { button, el, facts, field, openDialog, setText, toast } from "./dom.js";
import { count, duration, exact, visible } from "./format.js";
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

/** A dialog with one field. `send(text)` does the work; its error is shown, and the dialog stays open. */
function askFor(title, label, input, hint, { action, kind, before = null }, send) {
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const form = el("form", {}, before, field(label, input, hint), error,
    el("div", { class: "buttons" }, button("Cancel", () => dialog.close()), el("button", { class: kind }, action)));
  const dialog = openDialog(title, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await send(input.value);
      dialog.close();
    } catch (mistake) {
      error.hidden = false;
      setText(error, mistake instanceof SyntaxError ? `Not JSON: ${mistake.message}` : visible(mistake.message));
    }
  });
}

function changeSettings(queue, settings, refreshNow) {
  const input = el("textarea", { rows: 16, spellcheck: "false", required: true }, JSON.stringify(settings, null, 2));
  askFor(`Settings of ${queue}`, "Settings as JSON", input, "Durations are milliseconds, or texts such as \"1h 30m\"; null restores a default.",
    { action: "Change", kind: "primary" }, async (text) => {
      // Only what the user changed is sent: an equal value would replace a setting that another user has changed meanwhile.
      const changed = Object.entries(JSON.parse(text))
        .filter(([name, setting]) => JSON.stringify(setting) !== JSON.stringify(settings[name]));
      await call("PATCH", path(queue), {
        body: JSON.stringify(Object.fromEntries(changed)), headers: { "content-type": "application/merge-patch+json" },
      });
      toast(changed.length === 0 ? "No setting was changed." : "The settings were changed.");
      refreshNow();
    });
}

function deleteQueue(queue, unfinished) {
  const input = el("input", { autocomplete: "off", spellcheck: "false", required: true });
  const warning = el("p", {}, `Drover forgets the queue ${queue} with its settings, its schedules and all its messages, `,
    `${exact(unfinished)} of them unfinished. This can't be undone.`);
  askFor("Delete the queue?", "Name of the queue, to confirm", input, null, { action: "Delete", kind: "danger", before: warning },
    async (confirm) => {
      await call("DELETE", path(queue), { query: { confirm: confirm.trim() } });
      toast(`The queue ${queue} was deleted.`);
      location.hash = "#/queues";
    });
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
