// The script of the chat's page: the login, the conversations, and the states of the user's own messages.

import { Connection } from "./connection.js";
import { History } from "./history.js";

const $ = (id) => document.getElementById(id);
const NAME_PATTERN = /^[a-z0-9_-]{1,32}$/;
const STATES = { sending: "◷ sending", sent: "✓ sent", delivered: "✓✓ delivered", refused: "not sent" };
const STATUS = { connecting: "connecting…", online: "online", offline: "offline: connects again…", replaced: "open elsewhere" };
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

let user;
let history;
let connection;
// The name of the user whose conversation is shown.
let peer = null;
// The names of conversations that have no message yet.
const begun = new Set();
// The id of the message that was sent on the present connection and not answered yet. The page sends a message only after the answer to the
// previous message, so that the messages are stored in order.
let unanswered = null;

async function logIn(name) {
  user = name;
  history = await History.open(user);
  sessionStorage.setItem("user", user);
  $("login").hidden = true;
  $("chat").hidden = false;
  document.title = `Chat: ${user}`;
  $("own-name").textContent = user;
  showAvatar($("own-avatar"), user);
  showConversations();
  choose(null);
  connection = new Connection(user, { frame: onFrame, state: onState });
}

function onState(state) {
  $("status").dataset.state = state;
  $("status").textContent = STATUS[state];
  if (state === "online") {
    unanswered = null;
    sendNext();
  }
  if (state === "replaced") $("replaced").showModal();
}

async function onFrame(frame, reply) {
  switch (frame.type) {
    case "sent":
    case "refused":
      unanswered = null;
      if (history.get(frame.id)?.state === "sending") {
        await changeState(frame.id, frame.type === "sent" ? { state: "sent" } : { state: "refused", reason: frame.reason });
      }
      sendNext();
      break;
    case "message":
      await receive(frame);
      reply({ type: "ack", id: frame.id });
      break;
    case "delivered":
      // The receipt of a message may arrive before the answer "sent", and may arrive twice.
      if (history.get(frame.of)?.own) await changeState(frame.of, { state: "delivered" });
      reply({ type: "ack", id: frame.id });
      break;
  }
}

async function receive({ id, from, text, at }) {
  const isShown = from === peer && !document.hidden;
  const message = { id, peer: from, own: false, text, at: Date.parse(at), state: isShown ? "read" : "unread" };
  if (!(await history.add(message))) return;
  if (from === peer) showMessage(history.get(id));
  showConversations();
}

async function changeState(id, fields) {
  await history.change(id, fields);
  showState(id);
  showConversations();
}

function sendNext() {
  if (unanswered || !connection.isOpen) return;
  const next = history.all().find(({ state }) => state === "sending");
  if (!next) return;
  unanswered = next.id;
  connection.send({ type: "send", id: next.id, to: next.peer, text: next.text });
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `${user}.${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

async function write(to, text) {
  const message = { id: newId(), peer: to, own: true, text, at: Date.now(), state: "sending" };
  await history.add(message);
  if (to === peer) showMessage(history.get(message.id), "scroll");
  showConversations();
  sendNext();
}

// The conversations

function choose(name) {
  peer = name;
  $("chat").dataset.view = peer ? "conversation" : "list";
  $("peer-name").textContent = peer ?? "";
  $("messages").replaceChildren();
  if (peer) {
    showAvatar($("peer-avatar"), peer);
    for (const message of history.all().filter((message) => message.peer === peer)) showMessage(message, "scroll");
    markRead();
  }
  showConversations();
}

async function markRead() {
  if (!peer || document.hidden) return;
  const unread = history.all().filter((message) => message.peer === peer && message.state === "unread");
  for (const { id } of unread) await history.change(id, { state: "read" });
  if (unread.length) showConversations();
}

// Returns the conversations; the conversation with the newest message is the first.
function conversations() {
  const found = new Map();
  for (const message of history.all()) {
    const { unread } = found.get(message.peer) ?? { unread: 0 };
    found.delete(message.peer);
    found.set(message.peer, { name: message.peer, last: message, unread: unread + (message.state === "unread") });
  }
  for (const name of begun) {
    if (!found.has(name)) found.set(name, { name, last: null, unread: 0 });
  }
  return [...found.values()].reverse();
}

function showConversations() {
  const list = conversations();
  $("no-conversations").hidden = list.length > 0;
  const focused = document.activeElement?.closest?.("#conversations li")?.dataset.peer;
  $("conversations").replaceChildren(...list.map(conversationItem));
  if (focused) $("conversations").querySelector(`li[data-peer="${focused}"] button`)?.focus();
  const unread = list.reduce((sum, conversation) => sum + conversation.unread, 0);
  document.title = unread ? `(${unread}) Chat: ${user}` : `Chat: ${user}`;
}

function conversationItem({ name, last, unread }) {
  const button = element("button", { className: "conversation" });
  const avatar = element("span", { className: "avatar", ariaHidden: "true" });
  showAvatar(avatar, name);
  const preview = last ? (last.own ? `You: ${last.text}` : last.text) : "no message yet";
  const title = element("span", { className: "title" });
  title.append(element("strong", { textContent: name }), element("span", { className: "preview", textContent: preview }));
  const side = element("span", { className: "side" });
  if (last) side.append(element("time", { textContent: clock.format(last.at) }));
  if (unread) side.append(element("span", { className: "badge", textContent: unread, ariaLabel: `${unread} unread` }));
  button.append(avatar, title, side);
  if (name === peer) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => choose(name));
  const item = element("li");
  item.dataset.peer = name;
  item.append(button);
  return item;
}

// The messages of the chosen conversation

function showMessage(message, scroll) {
  const list = $("messages");
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  const date = new Date(message.at).toDateString();
  if (list.lastElementChild?.dataset.date !== date) {
    const separator = element("div", { className: "day", textContent: day.format(message.at) });
    list.append(separator);
  }
  const item = element("div", { className: message.own ? "message own" : "message" });
  Object.assign(item.dataset, { id: message.id, date });
  item.append(element("p", { textContent: message.text }));
  const foot = element("small");
  foot.append(element("time", { textContent: clock.format(message.at) }));
  if (message.own) foot.append(element("span", { className: "state" }));
  item.append(foot);
  list.append(item);
  if (message.own) showState(message.id);
  if (scroll || isAtEnd) list.scrollTop = list.scrollHeight;
}

function showState(id) {
  const item = $("messages").querySelector(`.message[data-id="${CSS.escape(id)}"]`);
  if (!item) return;
  const { state, reason } = history.get(id);
  item.dataset.state = state;
  item.querySelector(".state").textContent = STATES[state];
  item.querySelector(".refusal")?.remove();
  if (state !== "refused") return;
  const refusal = element("p", { className: "refusal", textContent: `${reason} ` });
  const again = element("button", { className: "quiet", textContent: "Send again" });
  again.addEventListener("click", async () => {
    await changeState(id, { state: "sending", reason: undefined });
    sendNext();
  });
  refusal.append(again);
  item.append(refusal);
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

function showAvatar(avatar, name) {
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  avatar.textContent = name.slice(0, 2);
  avatar.style.setProperty("--hue", hue);
}

// The forms

// Reads a name from a form field, or shows the mistake in the name.
function nameIn(field) {
  const name = field.value.trim().toLowerCase();
  const isValid = NAME_PATTERN.test(name);
  field.setCustomValidity(isValid ? "" : "Use 1 to 32 letters a to z, digits, _ or -.");
  field.reportValidity();
  return isValid ? name : null;
}

for (const field of [$("name"), $("peer")]) field.addEventListener("input", () => field.setCustomValidity(""));

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = nameIn($("name"));
  if (name) logIn(name);
});

$("new-conversation").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = nameIn($("peer"));
  if (!name) return;
  begun.add(name);
  event.target.reset();
  choose(name);
  $("text").focus();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  event.target.reset();
  write(peer, text);
});

$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("back").addEventListener("click", () => {
  const name = peer;
  choose(null);
  $("conversations").querySelector(`li[data-peer="${name}"] button`)?.focus();
});
$("log-out").addEventListener("click", () => {
  sessionStorage.removeItem("user");
  location.reload();
});
$("use-here").addEventListener("click", () => location.reload());
document.addEventListener("visibilitychange", () => history && markRead());

const remembered = sessionStorage.getItem("user");
if (remembered) logIn(remembered);
