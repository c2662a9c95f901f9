// Builds and updates the page. Texts of messages become text nodes only, never HTML.

import { visible } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Creates an element. `attributes.on` has its listeners; children are nodes or texts. */
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/** Sets a node's text, if it is another one. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A text that somebody else wrote: it cannot change the direction of the text around it. */
export const foreign = (text, attributes = {}) => el("bdi", attributes, visible(text));

/**
 * Makes the children of `parent` those of `items`, in their order. A child with the same key stays the same node, so that it
 * keeps the focus. `create(item)` returns a node with a method `update(item)`.
 */
export function reconcile(parent, items, keyOf, create) {
  const old = new Map(Array.from(parent.children, (child) => [child.rowKey, child]));
  const keys = new Set(items.map(keyOf));
  for (const [key, child] of old) if (!keys.has(key)) child.remove();
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = old.get(key);
    if (child === undefined) {
      child = create(item);
      child.rowKey = key;
    }
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    child.update(item);
  }
}

const CONTROLS = "a[href], button, input, textarea, summary";

/**
 * Calls `change()`, which may replace or remove the child of `parent` that has the focus. Then a keyboard user goes on at the same
 * place of that child, or at the start of the child that follows a removed one.
 */
export function keepFocus(parent, change) {
  const focused = document.activeElement;
  const index = Array.from(parent.children).findIndex((child) => child.contains(focused));
  if (index < 0) return change();
  const controlsOf = (node) => [node, ...(node?.querySelectorAll("*") ?? [])].filter((part) => part?.matches(CONTROLS));
  const child = parent.children[index];
  const place = controlsOf(child).indexOf(focused);
  change();
  if (focused.isConnected) return document.activeElement === focused || focused.focus();
  const controls = child.isConnected ? controlsOf(child).slice(place) : controlsOf(parent.children[index] ?? parent.lastElementChild);
  return (controls[0] ?? document.querySelector("main h1")).focus();
}

const WORDS = {
  held: "Held", delayed: "Delayed", waiting: "Waiting", active: "Active", completed: "Completed", failed: "Failed",
};

export const STATES = Object.keys(WORDS);
export const stateWord = (state) => WORDS[state] ?? state;

/** A label with the colour and the name of a state. */
export const pill = (state) => el("span", { class: `pill ${state}` }, stateWord(state));

/**
 * A button. While its listener works, further clicks do nothing; the button is not disabled, because it would lose the focus.
 */
export function button(label, listener, attributes = {}) {
  const click = async () => {
    if (node.getAttribute("aria-disabled") === "true") return;
    node.setAttribute("aria-disabled", "true");
    try {
      await listener();
    } finally {
      node.removeAttribute("aria-disabled");
    }
  };
  const node = el("button", { type: "button", ...attributes, on: { click } }, label);
  return node;
}

/** Makes the links of a list of pages those of `entries`, each a label and an address or nothing. */
export function showPages(nav, entries) {
  const create = ([label]) => {
    const link = el("a", {}, label);
    link.update = ([, href]) => link.setAttribute("href", href);
    return link;
  };
  keepFocus(nav, () => reconcile(nav, entries.filter(([, href]) => href), ([label]) => label, create));
}

/** A label with its input. */
export function field(label, input, hint) {
  const hintNode = hint && el("small", {}, hint);
  return el("label", { class: "field" }, el("span", {}, label), input, hintNode);
}

/** A list of names and values. */
export const facts = (entries) =>
  el("dl", { class: "facts" },
    entries.filter((entry) => entry && entry[1] !== null && entry[1] !== undefined)
      .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

/** Shows a short report for some seconds: a text, or a list of texts and nodes. */
export function toast(report, kind = "done") {
  const node = el("div", { class: `toast ${kind}` }, report);
  const toasts = document.getElementById("toasts");
  toasts.append(node);
  while (toasts.children.length > 4) toasts.firstChild.remove();
  setTimeout(() => node.remove(), kind === "error" ? 12_000 : 5_000);
}

/** Shows a modal dialog, and removes it when it is closed. */
export function openDialog(title, ...children) {
  const dialog = el("dialog", { "aria-label": title }, el("h2", {}, title), children);
  const opener = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    // The page goes on behind the dialog, and may have removed the button that opened the dialog.
    if (!opener.isConnected) document.querySelector("main h1")?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks before something that can't be undone. Resolves to whether the user agrees. */
export function ask(title, text, action) {
  return new Promise((resolve) => {
    const answer = (value) => () => dialog.close(value);
    const dialog = openDialog(title, el("p", {}, text), el("div", { class: "buttons" },
      button("Cancel", answer(""), { autofocus: true }), button(action, answer("yes"), { class: "danger" })));
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
  });
}

/**
 * Shows a dialog with a form of these `parts`. `send()` does the work of the button `action`: its error is shown, and the dialog
 * stays open. Resolves to whether the work was done.
 */
export function openForm(title, parts, action, send, kind = "primary") {
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const form = el("form", {}, parts, error,
    el("div", { class: "buttons" }, button("Cancel", () => dialog.close()), el("button", { class: kind }, action)));
  const dialog = openDialog(title, form);
  let isSending = false;
  let isDone = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isSending) return;
    isSending = true;
    try {
      await send();
      isDone = true;
      dialog.close();
    } catch (mistake) {
      error.hidden = false;
      setText(error, visible(mistake.message));
    }
    isSending = false;
  });
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(isDone)));
}

/** An input for a short text. */
export const input = (attributes) => el("input", { autocomplete: "off", spellcheck: "false", ...attributes });

/** Throws an error that names the field, if its text is no JSON. */
export function checkJson(label, area) {
  try {
    if (area.value.trim()) JSON.parse(area.value);
  } catch (mistake) {
    area.focus();
    throw new Error(`${label}: not JSON: ${mistake.message}`);
  }
}
