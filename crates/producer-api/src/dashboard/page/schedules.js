// The schedules of a queue with their next ticks.

import { get, may, path, post } from "./api.js";
import { button, el, foreign, toast } from "./dom.js";
import { duration, exact, instant, relative } from "./format.js";
import { preview } from "./json.js";
import { table } from "./table.js";

const PAGE = 50;
const NEXT = 3;

const rule = ({ cron, timezone, every, offset }) =>
  cron === null ? `every ${duration(every)}${offset ? ` + ${duration(offset)}` : ""}` : `${cron} (${timezone})`;

export function schedulesTab(queue, query, refreshNow) {
  const cursor = query.get("cursor") ?? "";
  const address = `#/queues/${encodeURIComponent(queue)}`;
  const act = (name, action, label, report) => button(label, async (event) => {
    event.target.disabled = true;
    try {
      await post(path(queue, "schedules", name, action));
      toast(report);
    } catch (error) {
      toast(error.message, "error");
    }
    event.target.disabled = false;
    refreshNow();
  }, { class: "small", "aria-label": `${label} ${name}` });
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
      node: ({ next_at }) => next_at.length === 0 ? "–" : el("ul", {}, next_at.slice(0, NEXT).map((at) => el("li", {}, instant(at)))),
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
        act(name, paused ? "resume" : "pause", paused ? "Resume" : "Pause", `The schedule ${name} was ${paused ? "resumed" : "paused"}.`),
        act(name, "run", "Run now", `The schedule ${name} posted a message.`),
      ],
    },
  ], ({ name }) => name, "");
  const pages = el("nav", { class: "pages", "aria-label": "Pages of schedules" });
  return {
    node: el("div", {}, list.node, pages),
    async refresh() {
      const { schedules, next_cursor: next } = await get(path(queue, "schedules"), { limit: PAGE, cursor });
      list.update(schedules, "This queue has no schedules.");
      const link = (at) => `${address}/schedules${at ? `?${new URLSearchParams({ cursor: at })}` : ""}`;
      pages.replaceChildren(...[
        cursor && el("a", { href: link("") }, "First page"), next && el("a", { href: link(next) }, "Next page"),
      ].filter(Boolean));
    },
    refused(refusal) {
      if (refusal.code !== "cursor_not_found") return false;
      location.hash = `${address}/schedules`;
      return true;
    },
  };
}
