// The form that creates or changes a schedule.

import { number } from "./actions.js";
import { Refused, call, get, path } from "./api.js";
import { checkJson, el, field, input, openForm, toast } from "./dom.js";
import { duration, visible } from "./format.js";
import { source } from "./json.js";

const NEW_MESSAGE = '{\n  "data": {"kind": "report"}\n}';

const choice = (chosen, options) =>
  el("select", {}, options.map(([value, label]) => el("option", { value, selected: value === chosen }, label)));

/** Whether the queue has a schedule of this name. */
const exists = (queue, name) => get(path(queue, "schedules", name)).then(() => true, (error) => {
  if (error instanceof Refused && error.status === 404) return false;
  throw error;
});

/** Asks for the definition of a schedule, which begins with that of `old`, if any. */
export function defineSchedule(queue, old, refreshNow) {
  const message = old === null ? NEW_MESSAGE : source(old.message);
  if (message === null) return toast("The message of this schedule is too long to be changed here.", "error");
  const { cron, timezone, every, offset, start_at, end_at, max_runs, missed = "one", overlap = "allow", declared } = old ?? {};
  const millis = (value) => (value ? duration(value, 5) : "");
  const inputs = {
    name: input({ required: true, maxlength: 128, placeholder: "daily-report" }),
    cron: input({ value: cron ?? "", placeholder: "30 9 * * mon-fri" }), timezone: input({ value: timezone ?? "", placeholder: "UTC" }),
    every: input({ value: millis(every), placeholder: "5m" }), offset: input({ value: millis(offset), placeholder: "0" }),
    start_at: input({ value: start_at ?? "" }), end_at: input({ value: end_at ?? "" }),
    max_runs: input({ value: max_runs ?? "", inputmode: "numeric" }),
    missed: choice(missed, [["one", "one message for all"], ["all", "all, up to 1,000"], ["skip", "none"]]),
    overlap: choice(overlap, [["allow", "post"], ["skip", "leave the tick out"]]),
  };
  const area = el("textarea", { rows: 6, spellcheck: "false", required: true }, message);
  const notes = [
    declared && el("p", { class: "note" }, "The configuration declares this schedule, and restores it when a process starts."),
    old !== null && el("p", { class: "note" }, "A changed schedule counts its runs from 0."),
  ];
  return openForm(old === null ? "Create a schedule" : `Edit ${old.name}`, [
    notes, old === null && field("Name", inputs.name),
    el("div", { class: "columns" },
      field("Cron pattern", inputs.cron, "five fields, or six with seconds"), field("Time zone", inputs.timezone, "of the pattern"),
      field("Or every", inputs.every, "an interval, such as 1h 30m"), field("Offset", inputs.offset, "of the interval")),
    field("Message (JSON)", area, "as in a post: data, name, group and other options"),
    el("details", { open: Boolean(start_at || end_at || max_runs) || missed !== "one" || overlap !== "allow" },
      el("summary", {}, "More options"), el("div", { class: "columns" },
        field("Start at", inputs.start_at, "2030-01-31T09:00:00Z"), field("End at", inputs.end_at, "2030-12-31T09:00:00Z"),
        field("Runs", inputs.max_runs, "the most"), field("Missed ticks", inputs.missed, "after an outage"),
        field("Unfinished before", inputs.overlap, "at the next tick"))),
  ], old === null ? "Create" : "Change", async () => {
    checkJson("Message", area);
    const name = old?.name ?? inputs.name.value.trim();
    if (old === null && (await exists(queue, name))) throw new Error(`The queue has a schedule ${name} already.`);
    const members = [`"message":${area.value}`];
    for (const [member, { value }] of Object.entries(inputs)) {
      if (member !== "name" && value.trim()) members.push(`"${member}":${number(value)}`);
    }
    await call("PUT", path(queue, "schedules", name), { body: `{${members.join(",")}}` });
    toast(`The schedule ${visible(name)} was ${old === null ? "created" : "changed"}.`);
    refreshNow();
  });
}
