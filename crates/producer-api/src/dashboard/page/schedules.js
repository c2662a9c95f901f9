// The schedules of a queue with their next ticks.

import { call, get, may, path, post } from "./api.js";
import { ask, button, el, foreign, showPages, toast } from "./dom.js";
import { duration, exact, relative } from "./format.js";
import { preview } from "./json.js";
import { moment } from "./messages.js";
import { defineSchedule } from "./schedule-form.js";
import { table } from "./table.js";

const PAGE = 50;
const NEXT = 3;

const rule = ({ cron, timezone, every, offset }) =>
  cron === null ? `every ${duration(every)}${offset ? ` + ${duration(offset)}` : ""}` : `${cron} (${timezone})`;

export function schedulesTab(queue, query, refreshNow) {
  const cursor = query.get("cursor") ?? "";
  const address = `#/queues/${encodeURIComponent(queue)}`;
  const act = (name, label, request, report) => button(label, async () => {
    try {
      if ((await request()) === false || report === undefined) return;
      toast(`The schedule ${name} ${report}`);
    } catch (error) {
      toast(foreign(error.message), "error");
    }
    refreshNow();
  }, { class: `small ${label.toLowerCase()}`, "aria-label": `${label} ${name}` });
  const change = (name, action) => () => post(path(queue, "schedules", name, action));
  const edit = (name) => async () => defineSchedule(queue, await get(path(queue, "schedules", name)), refreshNow);
  const remove = (name) => async () =>
    (await ask("Delete the schedule?", `The schedule ${name} posts no more messages. The messages that it posted stay.`, "Delete")) &&
    call("DELETE", path(queue, "schedules", name));
  const list = table("Schedules", [
    {
      label: "Schedule", class: "name", changes: ({ paused }) => paused,
      node: ({ name, paused, declared }) => [
        foreign(name), paused && el("span", { class: "pill paused" }, "Paused"), declared && el("span", { class: "sub" }, "from the configuration"),
      ],
    },
    { label: "Rule", class: "rule", changes: rule, node: (schedule) => el("code", {}, rule(schedule)) },
    { label: "Message", class: "data", changes: ({ message }) => preview(message), node: ({ message }) => el("code", {}, preview(message)) },
    {
      label: "Next ticks", class: "when ticks", changes: ({ next_at, paused }) => `${next_at[0]} ${paused}`,
      node: ({ next_at }) => next_at.length === 0 ? "–" : el("ul", {}, next_at.slice(0, NEXT).map((at) => el("li", {}, moment(at)))),
    },
    { label: "In", class: "when", text: ({ next_at, paused }) => (paused || next_at.length === 0 ? "–" : relative(next_at[0]).replace("in ", "")) },
    { label: "Runs", class: "number", text: ({ runs }) => exact(runs) },
    {
      label: "Last", class: "when", changes: ({ last_message }) => last_message,
      node: ({ last_message: last }) =>
        last === null ? "–" : el("a", { href: `${address}/message/${encodeURIComponent(last)}` }, "message"),
    },
    {
      label: "Actions", class: "actions", changes: ({ paused }) => paused,
      node: ({ name, paused }) => may("manage", queue) && [
        paused ? act(name, "Resume", change(name, "resume"), "was resumed.") : act(name, "Pause", change(name, "pause"), "was paused."),
        act(name, "Edit", edit(name)), act(name, "Run now", change(name, "run"), "posted a message."), act(name, "Delete", remove(name), "was deleted."),
      ],
    },
  ], ({ name }) => name, "");
  const pages = el("nav", { class: "pages", "aria-label": "Pages of schedules" });
  return {
    node: el("div", {}, may("manage", queue) && el("div", { class: "toolbar" },
      button("Create a schedule", () => defineSchedule(queue, null, refreshNow))), list.node, pages),
    async refresh() {
      const { schedules, next_cursor: next } = await get(path(queue, "schedules"), { limit: PAGE, cursor });
      list.update(schedules, "This queue has no schedules.");
      const link = (at) => `${address}/schedules${at ? `?${new URLSearchParams({ cursor: at })}` : ""}`;
      showPages(pages, [["First page", cursor && link("")], ["Next page", next && link(next)]]);
    },
    refused(refusal) {
      if (refusal.code !== "cursor_not_found") return false;
      location.hash = `${address}/schedules`;
      return true;
    },
  };
}
