// The form that posts a message.

import { number } from "./actions.js";
import { call, hasKey, may, path } from "./api.js";
import { checkJson, el, field, foreign, input, setText, toast } from "./dom.js";
import { visible } from "./format.js";

/** A key for one filling of the form: a repetition after an error posts the message only once. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const TEXTS = ["name", "group", "id", "delay", "ttl", "hold", "timeout"];
const NUMBERS = ["priority", "max_attempts"];

export function postView(queue) {
  const target = input({ value: queue, required: true, maxlength: 128, placeholder: "my-queue" });
  const data = el("textarea", { rows: 8, required: true, spellcheck: "false" }, '{\n  "hello": "world"\n}');
  const headers = el("textarea", { rows: 2, spellcheck: "false", placeholder: '{"tenant": "a"}' });
  const inputs = {
    name: input({ placeholder: "welcome-mail" }), group: input({ placeholder: "room-7" }), delay: input({ placeholder: "1h 30m" }),
    priority: input({ placeholder: "0", inputmode: "numeric" }), id: input({ placeholder: "order-42" }),
    max_attempts: input({ inputmode: "numeric" }), ttl: input({ placeholder: "1d" }), hold: input({ placeholder: "paid:42" }),
    timeout: input({ placeholder: "5m" }),
  };
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const submit = el("button", { class: "primary" }, "Post the message");
  const form = el("form", { class: "card post" },
    field("Queue", target, !may("read") && hasKey() ? "This key may post, and not read." : null),
    field("Data (JSON)", data),
    el("div", { class: "columns" },
      field("Name", inputs.name, "the kind of message"), field("Group", inputs.group, "in order, one at a time"),
      field("Delay", inputs.delay, "until the message is due"), field("Priority", inputs.priority, "lower is first")),
    el("details", {}, el("summary", {}, "More options"),
      el("div", { class: "columns" },
        field("Own id", inputs.id), field("Attempts", inputs.max_attempts, "the most"), field("Time to live", inputs.ttl),
        field("Timeout", inputs.timeout, "of a run"), field("Hold", inputs.hold, "the signal to wait for")),
      field("Headers (JSON)", headers)),
    error, el("div", { class: "buttons" }, submit));
  let key = newKey();
  let isSending = false;
  form.addEventListener("input", () => (key = newKey()));

  /** The body keeps the text of the data, so that its numbers stay exact. */
  function body() {
    const members = [`"data":${data.value}`];
    for (const name of TEXTS) if (inputs[name].value.trim()) members.push(`"${name}":${JSON.stringify(inputs[name].value.trim())}`);
    for (const name of NUMBERS) if (inputs[name].value.trim()) members.push(`"${name}":${number(inputs[name].value)}`);
    if (headers.value.trim()) members.push(`"headers":${headers.value}`);
    return `{${members.join(",")}}`;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.hidden = true;
    const name = target.value.trim();
    if (isSending) return undefined;
    isSending = true;
    try {
      checkJson("Data", data);
      checkJson("Headers", headers);
      const message = await call("POST", path(name, "messages"), { body: body(), headers: { "idempotency-key": key } });
      if (may("read", name)) {
        location.hash = `#/queues/${encodeURIComponent(name)}/message/${encodeURIComponent(message.id)}`;
        return undefined;
      }
      key = newKey();
      toast(["The message ", foreign(message.id), " was posted."]);
    } catch (mistake) {
      error.hidden = false;
      setText(error, visible(mistake.message));
    }
    isSending = false;
    return undefined;
  });
  return {
    title: "Post a message",
    node: el("section", { class: "narrow" }, el("h1", { tabindex: -1 }, "Post a message"), form),
    refresh: async () => {},
    close: () => {},
  };
}
