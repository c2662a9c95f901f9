// The frame of the dashboard: it chooses the view of the address, refreshes the view, asks for a key, and says so when the API
// is away.

import { Away, Refused, forgetKey, hasKey, keepKey, learnRights, may } from "./api.js";
import { button, el, field, foreign, openDialog, setText } from "./dom.js";
import { messageView } from "./message.js";
import { postView } from "./post.js";
import { queueView } from "./queue.js";
import { queuesView } from "./queues.js";

const REFRESH = 2_000;
const LONGEST_PAUSE = 15_000;
const main = document.getElementById("main");
const away = document.getElementById("away");

/** The view in `main`: `refresh()` reads and shows its data, `close()` ends what it began. */
let view = { refresh: async () => {}, close: () => {} };
let rights = null;
let wake = () => {};
/** Counts the calls of `open`, so that a refresh of an earlier view changes nothing. */
let turn = 0;

/** The parts of the address after `#`, and its parameters. */
function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  try {
    return { parts: path.split("/").map(decodeURIComponent), query: new URLSearchParams(query) };
  } catch {
    return { parts: [""], query: new URLSearchParams() };
  }
}

function chooseView() {
  const { parts: [area, queue, tab, id], query } = address();
  if (!may("read")) return may("enqueue") ? postView(query.get("queue") ?? "") : nothingToSee();
  if (area === "post" && may("enqueue")) return postView(query.get("queue") ?? "");
  if (area === "queues" && queue && tab === "message" && id) return messageView(queue, id, refreshNow);
  if (area === "queues" && queue) return queueView(queue, tab ?? "messages", query, refreshNow);
  return queuesView(query, refreshNow);
}

function nothingToSee() {
  const node = el("section", { class: "card" }, el("h1", { tabindex: -1 }, "Nothing to see"),
    el("p", {}, "This key may neither read queues nor post messages."));
  return { title: "Drover", node, refresh: async () => {}, close: () => {} };
}

/** Shows the view of the address. */
function open({ moveFocus }) {
  turn += 1;
  view.close();
  if (rights === null) {
    view = { refresh: async () => {}, close: () => {} };
  } else {
    view = chooseView();
    document.title = `${view.title} · Drover`;
    main.replaceChildren(view.node);
    showNavigation();
    if (moveFocus) {
      scrollTo(0, 0);
      main.querySelector("h1")?.focus({ preventScroll: true });
    }
  }
  refreshNow();
}

function showNavigation() {
  const area = address().parts[0];
  const link = (href, label, isCurrent) => el("a", { href, "aria-current": isCurrent ? "page" : null }, label);
  document.getElementById("nav").replaceChildren(...[
    may("read") && link("#/queues", "Queues", area !== "post"),
    may("enqueue") && link("#/post", "Post", area === "post"),
    el("a", { href: new URL("../docs", import.meta.url) }, "API"),
  ].filter(Boolean));
  const owner = rights.id !== null && [
    el("span", { class: "key", title: `Scopes: ${rights.scopes.join(", ")}. Queues: ${rights.queues.join(", ")}` },
      "Key ", foreign(rights.id), el("small", {}, rights.scopes.join(", "))),
    button("Forget key", () => {
      forgetKey();
      rights = null;
      main.replaceChildren();
      open({ moveFocus: false });
    }, { class: "quiet" }),
  ];
  document.getElementById("session").replaceChildren(...(owner || []));
}

/** Makes the loop refresh at once. */
function refreshNow() {
  wake();
}

/** Shows why no data arrives, or nothing. */
function showAway(text) {
  away.hidden = text === null;
  document.body.classList.toggle("is-away", text !== null);
  if (text !== null) setText(away, `${text} The page tries again by itself.`);
}

let keyDialog = null;

/** Asks for a key until there is a valid one. */
function askForKey() {
  if (keyDialog !== null) return;
  const input = el("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true, autofocus: true });
  const form = el("form", {},
    hasKey() && el("p", { class: "error", role: "alert" }, "This key is not known, or it has expired."),
    el("p", {}, "This API needs a key. The browser keeps it until this tab is closed."),
    field("API key", input, "It begins with drv_"),
    el("div", { class: "buttons" }, el("button", { class: "primary" }, "Use this key")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey(input.value.trim());
    keyDialog.close();
    refreshNow();
  });
  forgetKey();
  keyDialog = openDialog("Sign in", form);
  keyDialog.addEventListener("cancel", (event) => event.preventDefault());
  keyDialog.addEventListener("close", () => {
    keyDialog = null;
    refreshNow();
  });
}

/** Reads the data of the view once. Returns the pause until the next time. */
async function refresh(failures) {
  const begun = performance.now();
  const shown = turn;
  try {
    if (rights === null) {
      rights = await learnRights();
      open({ moveFocus: false });
    }
    if (shown === turn && !document.hidden) await view.refresh();
    showAway(null);
    // A server that needs long for an answer is asked less often.
    return { failures: 0, pause: Math.max(REFRESH, 5 * (performance.now() - begun)) };
  } catch (error) {
    if (shown !== turn) return { failures, pause: 0 };
    if (error instanceof Away) {
      showAway(error.message);
      return { failures: failures + 1, pause: Math.min(1_000 * 2 ** failures, LONGEST_PAUSE) };
    }
    if (!(error instanceof Refused)) {
      // A mistake of the page itself must not end its updates.
      reportError(error);
      return { failures: 0, pause: REFRESH };
    }
    if (error.status === 401) {
      rights = null;
      askForKey();
      return { failures: 0, pause: LONGEST_PAUSE };
    }
    if (error.status === 429 || error.status === 503) {
      showAway(error.message);
      return { failures: 0, pause: error.retryAfter * 1_000 };
    }
    showAway(null);
    view.refused?.(error);
    return { failures: 0, pause: REFRESH };
  }
}

async function run() {
  let failures = 0;
  for (;;) {
    const woken = new Promise((resolve) => (wake = resolve));
    const result = keyDialog === null ? await refresh(failures) : { failures: 0, pause: LONGEST_PAUSE };
    failures = result.failures;
    let timer;
    await Promise.race([woken, new Promise((resolve) => (timer = setTimeout(resolve, result.pause)))]);
    clearTimeout(timer);
  }
}

addEventListener("hashchange", () => open({ moveFocus: true }));
document.addEventListener("visibilitychange", refreshNow);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, dialog");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = main.querySelector("input[type=search]");
  if (search !== null) {
    event.preventDefault();
    search.focus();
  }
});
run();
