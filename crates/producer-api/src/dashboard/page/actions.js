// What may be done with one message: buttons, and a form that changes a message that no consumer has leased.

import { call, may, path, post } from "./api.js";
import { ask, button, checkJson, el, field, foreign, input, openForm, toast } from "./dom.js";
import { exact, instant, visible } from "./format.js";
import { source } from "./json.js";

/** The report of a signal that was sent. */
export const reportSignal = (key, { released, sticky_until: until }) =>
  ["The signal ", foreign(key), ` released ${exact(released)} ${released === 1 ? "message" : "messages"}.`,
    until !== null && ` It is kept until ${instant(until)}.`];

const UNFINISHED = ["held", "delayed", "waiting", "active"];

const ACTIONS = [
  {
    name: "retry", label: "Retry", fits: ({ state }) => state === "failed",
    act: (queue, { id }) => post(path(queue, "messages", id, "retry")), did: "is ready again.",
  },
  {
    name: "release", label: "Release", scope: "enqueue", fits: ({ state }) => state === "held",
    async act(queue, { hold }) {
      if (!(await ask("Send the signal?", ["All messages of the queue that wait for ", foreign(hold), " are released."], "Send"))) return false;
      return reportSignal(hold, await post(path(queue, "signals", hold)));
    },
  },
  {
    name: "promote", label: "Promote", fits: ({ state }) => state === "delayed",
    act: (queue, { id }) => post(path(queue, "messages", id, "promote")), did: "was promoted.",
  },
  {
    name: "edit", label: "Edit", isOnPage: true, fits: ({ state, deliveries }) => deliveries === 0 && UNFINISHED.includes(state),
    act: edit, did: "was changed.",
  },
  {
    name: "cancel", label: "Cancel", fits: ({ state }) => UNFINISHED.includes(state),
    act: (queue, { id }) => post(path(queue, "messages", id, "cancel")), did: "is cancelled.",
  },
  {
    name: "erase", label: "Erase", fits: ({ state }) => state !== "active",
    act: async (queue, { id }) =>
      (await ask("Erase the message?", ["Drover forgets the message ", foreign(id), " and its result."], "Erase")) &&
      call("DELETE", path(queue, "messages", id)),
    did: "was erased.",
  },
];

/** The buttons for what may be done with a message in its state. `done(name)` is called after an action. */
export function messageActions(queue, message, done, { isOnPage }) {
  const fitting = ACTIONS.filter(({ scope = "manage", fits, isOnPage: isRare }) =>
    may(scope, queue) && fits(message) && (isOnPage || !isRare));
  return fitting.map(({ name, label, act, did }) =>
    button(label, async () => {
      try {
        const report = await act(queue, message);
        if (report === false) return;
        toast(did === undefined ? report : ["The message ", foreign(message.id), ` ${did}`]);
        done(name);
      } catch (error) {
        toast(foreign(error.message), "error");
        done(null);
      }
    }, { class: `${isOnPage ? "" : "small "}${name}`, "aria-label": `${label} ${visible(message.id)}` }));
}

/** Asks for new data, a new priority and a new delay. Resolves to false if the user gives up. */
function edit(queue, { id, data, priority }) {
  const old = source(data);
  const area = el("textarea", { rows: 10, spellcheck: "false", required: true }, old);
  const inputs = { priority: input({ value: priority, inputmode: "numeric" }), delay: input({ placeholder: "unchanged" }) };
  return openForm(`Edit ${visible(id)}`, [
    old === null ? el("p", { class: "note" }, "The data is too long to be changed here.") : field("Data (JSON)", area),
    el("div", { class: "columns" }, field("Priority", inputs.priority, "lower is first"),
      field("Delay from now", inputs.delay, "such as 1h 30m; 0 for none")),
  ], "Change", async () => {
    if (old !== null) checkJson("Data", area);
    const members = [];
    if (old !== null && area.value !== old) members.push(`"data":${area.value}`);
    if (inputs.priority.value.trim() !== String(priority)) members.push(`"priority":${number(inputs.priority.value)}`);
    if (inputs.delay.value.trim() !== "") members.push(`"delay":${number(inputs.delay.value)}`);
    await call("PATCH", path(queue, "messages", id),
      { body: `{${members.join(",")}}`, headers: { "content-type": "application/merge-patch+json" } });
  });
}

/** The JSON of a number that the user typed. Another text becomes a JSON text, so that the API names the wrong field. */
export const number = (text) => (/^-?(0|[1-9]\d*)$/.test(text.trim()) ? text.trim() : JSON.stringify(text.trim()));
