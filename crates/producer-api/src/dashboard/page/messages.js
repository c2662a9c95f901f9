// The messages of a queue: states as tabs, pages, filters, and actions on one message or on all of a state.

import { messageActions } from "./actions.js";
import { get, may, path, post } from "./api.js";
import { STATES, ask, button, el, field, foreign, pill, setText, showPages, stateWord, toast } from "./dom.js";
import { count, exact, instant, relative } from "./format.js";
import { preview } from "./json.js";
import { table } from "./table.js";

const PAGE = 50;
/** A page of a filter may be empty because the API has looked at this many other messages. */
const SEARCHED = 1_000;
/** The number of empty pages after which the view says how far the search is. */
const EMPTY_PAGES = 20;

/** The instant that matters in a message's state. */
function when({ state, created_at, due_at, started_at, finished_at }) {
  if (state === "delayed") return ["due", due_at];
  if (state === "active") return ["started", started_at];
  if (finished_at !== null) return ["finished", finished_at];
  return ["posted", created_at];
}

export function messagesTab(queue, query, refreshNow) {
  const filter = Object.fromEntries(["state", "id", "name", "group", "cursor"].map((name) => [name, query.get(name) ?? ""]));
  const link = (changes) => {
    const entries = Object.entries({ ...filter, cursor: "", ...changes }).filter(([, value]) => value);
    return `#/queues/${encodeURIComponent(queue)}/messages?${new URLSearchParams(entries)}`;
  };
  const counts = {};
  let exactCounts = {};
  const tabs = ["", ...STATES].map((state) => {
    counts[state] = el("b", {}, "–");
    return el("a", { href: link({ state, id: "" }), class: state || "all", "aria-current": state === filter.state ? "page" : null },
      counts[state], el("span", {}, state === "" ? "All" : stateWord(state)));
  });
  const inputs = {
    id: el("input", { value: filter.id, maxlength: 256 }),
    name: el("input", { value: filter.name, maxlength: 128 }),
    group: el("input", { value: filter.group, maxlength: 256 }),
  };
  for (const input of Object.values(inputs)) input.setAttribute("autocomplete", "off");
  const form = el("form", { class: "filters", role: "search", "aria-label": "Filter messages" },
    field("Id", inputs.id), field("Name", inputs.name), field("Group", inputs.group), el("button", {}, "Find"),
    (filter.id || filter.name || filter.group) && el("a", { class: "button quiet", href: link({ id: "", name: "", group: "" }) }, "Clear"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = link(Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value.trim()])));
  });
  const bulk = el("div", { class: "buttons" });
  const address = (id) => `#/queues/${encodeURIComponent(queue)}/message/${encodeURIComponent(id)}`;
  const list = table("Messages", [
    { label: "State", class: "state", changes: ({ state }) => state, node: ({ state }) => pill(state) },
    {
      label: "Message", class: "name", changes: ({ name, group, hold }) => JSON.stringify([name, group, hold]),
      node: ({ id, name, group, hold }) => [
        el("a", { href: address(id) }, foreign(id)),
        name !== null && foreign(name, { class: "sub" }),
        group !== null && el("span", { class: "sub" }, "group ", foreign(group)),
        hold !== null && el("span", { class: "sub" }, "waits for ", foreign(hold)),
      ],
    },
    {
      label: "Data", class: "data", changes: ({ data, error }) => `${error?.at} ${preview(data)}`,
      node: ({ data, error }) => [
        el("code", {}, preview(data)),
        error !== null && el("span", { class: "sub failure" }, foreign(`${error.code}: ${error.message}`.slice(0, 200))),
      ],
    },
    { label: "Attempts", class: "number", text: ({ attempts_made, max_attempts }) => `${attempts_made}/${max_attempts}` },
    {
      label: "When", class: "when",
      text: (message) => {
        const [word, at] = when(message);
        return at === null ? "–" : `${word} ${relative(at)}`;
      },
    },
    {
      label: "Actions", class: "actions", changes: ({ state }) => state,
      node: (message) => messageActions(queue, message, refreshNow, { isOnPage: false }),
    },
  ], ({ id }) => id, "");
  const pages = el("nav", { class: "pages", "aria-label": "Pages of messages" });
  /** Asks, then does something to all messages of the state. */
  const onAll = (title, text, action, request, report) => button(title, async () => {
    if (!(await ask(`${title}?`, text(), action))) return;
    try {
      toast(report(await request()));
    } catch (error) {
      toast(foreign(error.message), "error");
    }
    refreshNow();
  }, { class: action === "Purge" ? "danger" : "" });
  if (may("manage", queue) && filter.state === "failed") {
    bulk.append(onAll("Retry all failed", () => `All ${exact(exactCounts.failed)} failed messages of ${queue} become ready again.`,
      "Retry all", () => post(path(queue, "retry_failed")), ({ retried }) => `${exact(retried)} messages are ready again.`));
  }
  if (may("manage", queue) && filter.state !== "" && filter.state !== "active") {
    bulk.append(onAll(`Purge ${filter.state}`, () =>
      `Drover forgets all ${exact(exactCounts[filter.state])} ${filter.state} messages of ${queue}, whatever the filter shows. This can't be undone.`,
    "Purge", () => post(path(queue, "purge"), { state: filter.state }), ({ purged }) => `${exact(purged)} messages were purged.`));
  }

  /** How far a filter has searched without finding a message: the next reading goes on there. */
  const search = { cursor: filter.cursor, searched: 0 };

  async function read() {
    if (filter.id !== "") {
      const message = await get(path(queue, "messages", filter.id)).catch((error) => {
        if (["message_not_found", "invalid_id"].includes(error.code)) return null;
        throw error;
      });
      return { messages: message === null ? [] : [message] };
    }
    const { id, ...asked } = { ...filter, limit: PAGE };
    for (let pages = 1; ; pages += 1) {
      const page = await get(path(queue, "messages"), { ...asked, cursor: search.cursor });
      if (page.messages.length > 0 || !page.next_cursor || pages === EMPTY_PAGES) return page;
      search.cursor = page.next_cursor;
      search.searched += SEARCHED;
    }
  }

  return {
    node: el("div", {}, el("nav", { class: "states", "aria-label": "States" }, tabs),
      el("div", { class: "toolbar" }, form, bulk), list.node, pages),
    async refresh() {
      const { messages, next_cursor: next } = await read();
      const isFiltered = filter.id || filter.name || filter.group;
      list.update(messages, next ? `None among the first ${exact(search.searched)} messages. The search goes on …` :
        isFiltered ? "No message fits this filter." : "There are no messages here.");
      showPages(pages, [
        ["First page", filter.cursor && link({})], ["Next page", next && messages.length > 0 && link({ cursor: next })],
      ]);
      if (next && messages.length === 0) refreshNow();
    },
    show(status) {
      exactCounts = status.counts;
      for (const state of STATES) setText(counts[state], count(status.counts[state]));
      setText(counts[""], count(STATES.reduce((sum, state) => sum + status.counts[state], 0)));
    },
    refused(refusal) {
      if (refusal.code !== "cursor_not_found") return false;
      Object.assign(search, { cursor: "", searched: 0 });
      location.hash = link({});
      return true;
    },
  };
}

/** An instant with its distance from now. */
export const moment = (at) => el("time", { datetime: at, title: at }, instant(at));
