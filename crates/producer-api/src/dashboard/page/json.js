// Reads JSON without changing its numbers, and shows it as indented text.

import { el } from "./dom.js";
import { visible } from "./format.js";

/** A number that JavaScript can't hold exactly, as its text. */
class ExactNumber {
  constructor(text) {
    this.text = text;
  }
}

/** Parses JSON. A number whose text JavaScript would change becomes an `ExactNumber`. */
export function parse(text) {
  try {
    return JSON.parse(text, (_, value, context) =>
      typeof value === "number" && context?.source !== undefined && String(value) !== context.source
        ? new ExactNumber(context.source)
        : value);
  } catch (error) {
    // The reviver is recursive, and data may be nested very deeply.
    if (error instanceof RangeError) return JSON.parse(text);
    throw error;
  }
}

const MAX_DEPTH = 60;
const MAX_PARTS = 20_000;

const quoted = (text) => visible(JSON.stringify(text));

/** Calls `add(kind, text)` for each part of the indented text of a value, until `add` returns false. */
function write(value, add, indent) {
  let parts = 0;
  const put = (kind, text) => (parts += 1) <= MAX_PARTS && add(kind, text) !== false;
  const line = (depth) => (indent ? `\n${"  ".repeat(depth)}` : "");
  const visit = (value, depth) => {
    if (value instanceof ExactNumber) return put("number", value.text);
    if (typeof value === "string") return put("string", quoted(value));
    if (value === null || typeof value !== "object") return put(typeof value, String(value));
    const isList = Array.isArray(value);
    const [open, close] = isList ? "[]" : "{}";
    const names = Object.keys(value);
    if (names.length === 0) return put("mark", open + close);
    if (depth === MAX_DEPTH) return put("cut", `${open} … ${close}`);
    if (!put("mark", open)) return false;
    for (const [index, name] of names.entries()) {
      if (!put("mark", (index > 0 ? (indent ? "," : ", ") : "") + line(depth + 1))) return false;
      if (!isList && !(put("name", quoted(name)) && put("mark", ": "))) return false;
      if (!visit(value[name], depth + 1)) return false;
    }
    return put("mark", line(depth) + close);
  };
  return visit(value, 0);
}

/** The start of a value's text, on one line. */
export function preview(value, max = 160) {
  let text = "";
  write(value, (_, part) => (text += part).length <= max, false);
  return text.length > max ? `${text.slice(0, max)}…` : text;
}

/** The indented JSON of a value, or null if the value is too large. */
export function source(value) {
  let text = "";
  const add = (kind, part) => {
    text += part;
    return kind !== "cut";
  };
  return write(value, add, true) ? text : null;
}

/** A block with the indented text of a value. */
export function block(value, label) {
  const code = el("code");
  if (!write(value, (kind, text) => code.append(kind === "mark" ? text : el("span", { class: `json-${kind}` }, text)), true)) {
    code.append("\n… (the rest is too long to be shown)");
  }
  return el("pre", { class: "json", tabindex: 0, role: "region", "aria-label": label }, code);
}
