// The sticky signals of a queue: the list, and a form that sends a signal.

import { number, reportSignal } from "./actions.js";
import { call, get, may, path } from "./api.js";
import { ask, button, checkJson, el, field, foreign, input, openForm, showPages, toast } from "./dom.js";
import { exact, relative, visible } from "./format.js";
import { preview } from "./json.js";
import { moment } from "./messages.js";
import { table } from "./table.js";

const PAGE = 50;

async function send(queue, refreshNow) {
  const key = input({ required: true, maxlength: 256, placeholder: "paid:42" });
  const data = el("textarea", { rows: 4, spellcheck: "false", placeholder: '{"amount": 12}' });
  const time = input({ placeholder: "1h" });
  await openForm("Send a signal", [
    el("p", {}, "The signal releases all messages of the queue that are held for its key. ",
      "A sticky signal is kept, and releases later messages, too."),
    field("Key", key, "the messages' hold"), field("Data (JSON)", data, "for the messages; may be empty"),
    field("Sticky for", time, "such as 1h 30m, up to 30d; empty for a signal that is not kept"),
  ], "Send", async () => {
    checkJson("Data", data);
    const members = [];
    if (data.value.trim()) members.push(`"data":${data.value}`);
    if (time.value.trim()) members.push(`"sticky_for":${number(time.value)}`);
    const name = key.value.trim();
    toast(reportSignal(name, await call("POST", path(queue, "signals", name), { body: `{${members.join(",")}}` })));
    refreshNow();
  });
}

export function signalsTab(queue, query, refreshNow) {
  const cursor = query.get("cursor") ?? "";
  const address = `#/queues/${encodeURIComponent(queue)}/signals`;
  const remove = (key) => button("Delete", async () => {
    const warning = ["Later messages that are held for ", foreign(key), " wait for another signal. Released messages stay released."];
    if (!(await ask("Delete the signal?", warning, "Delete"))) return;
    try {
      await call("DELETE", path(queue, "signals", key));
      toast(["The signal ", foreign(key), " was deleted."]);
    } catch (error) {
      toast(foreign(error.message), "error");
    }
    refreshNow();
  }, { class: "small delete", "aria-label": `Delete ${visible(key)}` });
  const list = table("Sticky signals", [
    { label: "Key", class: "name", changes: ({ key }) => key, node: ({ key }) => foreign(key) },
    {
      label: "Data", class: "data", changes: ({ data }) => preview(data),
      node: ({ data }) => (data === null ? "–" : el("code", {}, preview(data))),
    },
    {
      label: "Kept until", class: "when ticks", changes: ({ sticky_until: until }) => until,
      node: ({ sticky_until: until }) => moment(until),
    },
    { label: "In", class: "when", text: ({ sticky_until: until }) => relative(until).replace("in ", "") },
    { label: "Still held", class: "number", text: ({ held }) => exact(held) },
    { label: "Actions", class: "actions", changes: ({ key }) => key, node: ({ key }) => may("enqueue", queue) && remove(key) },
  ], ({ key }) => key, "");
  const pages = el("nav", { class: "pages", "aria-label": "Pages of signals" });
  return {
    node: el("div", {}, may("enqueue", queue) && el("div", { class: "toolbar" },
      button("Send a signal", () => send(queue, refreshNow))), list.node, pages),
    async refresh() {
      const { signals, next_cursor: next } = await get(path(queue, "signals"), { limit: PAGE, cursor });
      list.update(signals, "This queue keeps no signal.");
      showPages(pages, [
        ["First page", cursor && address], ["Next page", next && `${address}?${new URLSearchParams({ cursor: next })}`],
      ]);
    },
    refused(refusal) {
      if (refusal.code !== "cursor_not_found") return false;
      location.hash = address;
      return true;
    },
  };
}
