// The list of queues: counts, rates and ages, live, page by page. Rates come from the totals of two readings; the history of
// rates is only in the memory of the page.

import { get, may, path, post } from "./api.js";
import { button, el, foreign, setText, showPages, svg, toast } from "./dom.js";
import { count, duration, exact, rate, visible } from "./format.js";
import { table } from "./table.js";

const PAGE = 50;
const SAMPLES = 30;
const MAX_QUEUES = 1_000;

/** For each queue the last reading, and the rates of messages that came in and that finished. */
const histories = new Map();

/** Takes a reading of a queue into its history. */
export function observe({ queue, totals }) {
  const now = performance.now();
  const reading = { now, posted: totals.enqueued, finished: totals.completed + totals.failed };
  const history = histories.get(queue) ?? { posted: [], finished: [], last: null };
  const { last } = history;
  if (last !== null && now - last.now < 500) return history;
  histories.delete(queue);
  histories.set(queue, history);
  if (histories.size > MAX_QUEUES) histories.delete(histories.keys().next().value);
  // Totals that are smaller than at the previous reading belong to a new queue of the same name.
  const isSame = last !== null && reading.posted >= last.posted && reading.finished >= last.finished;
  for (const name of isSame ? ["posted", "finished"] : []) {
    history[name].push((1_000 * (reading[name] - last[name])) / (now - last.now));
    if (history[name].length > SAMPLES) history[name].shift();
  }
  history.last = reading;
  return history;
}

/** The newest rate of a queue, per second. */
export const newest = (queue, name) => histories.get(queue)?.[name].at(-1) ?? NaN;

/** A small chart of the finished messages per second, which `update(history)` draws. */
export function sparkline(kind = "spark") {
  const area = svg("path", { class: "area" });
  const posted = svg("path", { class: "posted" });
  const finished = svg("path", { class: "line" });
  const base = svg("path", { class: "base", d: "M0,28.5L120,28.5" });
  const node = svg("svg", { class: kind, viewBox: "0 0 120 30", preserveAspectRatio: "none", role: "img", "aria-label": "no rates yet" },
    base, area, posted, finished);
  const update = (history) => {
    const max = Math.max(1, ...history.posted, ...history.finished);
    const points = (rates) =>
      rates.map((value, index) => `${((SAMPLES - rates.length + index) * 120) / (SAMPLES - 1)},${(28 - (26 * value) / max).toFixed(1)}`);
    const line = (rates) => (rates.length > 1 ? `M${points(rates).join("L")}` : "");
    const ends = points(history.finished);
    finished.setAttribute("d", line(history.finished));
    posted.setAttribute("d", line(history.posted));
    area.setAttribute("d", ends.length > 1 ? `M${ends[0].split(",")[0]},30L${ends.join("L")}L120,30Z` : "");
    const [done, came] = [history.finished.at(-1), history.posted.at(-1)].map(rate);
    node.setAttribute("aria-label", `finished per second: ${done}; posted per second: ${came}; highest: ${rate(max)}`);
  };
  return { node, update };
}

/** A button that pauses or resumes a queue; `null` if the key may not. */
export function pauseButton({ queue, paused }, refreshNow, kind = "small") {
  if (!may("manage", queue)) return null;
  const action = paused ? "resume" : "pause";
  const label = paused ? "Resume" : "Pause";
  return button(label, async () => {
    try {
      await post(path(queue, action));
      toast(`The queue ${queue} was ${action}d.`);
    } catch (error) {
      toast(foreign(error.message), "error");
    }
    refreshNow();
  }, { class: kind, "aria-label": `${label} ${queue}` });
}

/** The address of a page of queues. */
function link(prefix, cursor) {
  const query = new URLSearchParams(Object.entries({ prefix, cursor }).filter(([, value]) => value));
  return `#/queues${query.size > 0 ? `?${query}` : ""}`;
}

const total = (queues, state) => queues.reduce((sum, { counts }) => sum + counts[state], 0);

export function queuesView(query, refreshNow) {
  const prefix = query.get("prefix") ?? "";
  const cursor = query.get("cursor") ?? "";
  const number = (state, label) => ({ label, class: `number ${state}`, text: ({ counts }) => count(counts[state]) });
  const charts = new Map();
  const list = table("Queues", [
    {
      label: "Queue", class: "name", changes: ({ paused }) => paused,
      node: ({ queue, paused }) => [
        el("a", { href: `#/queues/${encodeURIComponent(queue)}` }, queue), paused && el("span", { class: "pill paused" }, "Paused"),
      ],
    },
    number("waiting", "Waiting"), number("active", "Active"), number("delayed", "Delayed"), number("held", "Held"),
    number("completed", "Completed"), number("failed", "Failed"),
    {
      label: "Oldest", class: "number",
      text: ({ oldest_waiting_age: age }) => (age === null ? "–" : duration(age - (age % 1_000) || age)),
    },
    { label: "In/s", class: "number", text: ({ queue }) => rate(newest(queue, "posted")) },
    { label: "Done/s", class: "number", text: ({ queue }) => rate(newest(queue, "finished")) },
    {
      label: "Last minute", class: "chart",
      node: ({ queue }) => {
        const chart = sparkline();
        charts.set(queue, chart);
        return chart.node;
      },
    },
    {
      label: "Actions", class: "actions only", changes: ({ paused }) => paused,
      node: (status) => pauseButton(status, refreshNow),
    },
  ], ({ queue }) => queue, "");

  const search = el("input", {
    type: "search", value: prefix, placeholder: "Name begins with …  ( / )", "aria-label": "Search queues by the start of the name",
    maxlength: 128, autocomplete: "off", spellcheck: "false",
  });
  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      history.replaceState(null, "", link(search.value.trim(), ""));
      current = { prefix: search.value.trim(), cursor: "" };
      refreshNow();
    }, 250);
  });
  let current = { prefix, cursor };
  const summary = el("div", { class: "tiles" });
  const tiles = Object.fromEntries([
    ["queues", "Queues shown"], ["waiting", "Waiting"], ["active", "Active"], ["delayed", "Delayed"],
    ["failed", "Failed"], ["rate", "Finished per second"],
  ].map(([name, label]) => {
    const value = el("b", {}, "–");
    summary.append(el("div", { class: `tile ${name}` }, value, el("span", {}, label)));
    return [name, value];
  }));
  const pages = el("nav", { class: "pages", "aria-label": "Pages of queues" });
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const welcome = el("div", { class: "card welcome", hidden: true },
    el("p", {}, "There are no queues yet. The first message creates its queue."),
    may("enqueue") && el("a", { class: "button primary", href: "#/post" }, "Post a message"));
  const node = el("section", {},
    el("div", { class: "head" }, el("h1", { tabindex: -1 }, "Queues"),
      el("form", { role: "search", class: "search", on: { submit: (event) => event.preventDefault() } }, search)),
    summary, error, welcome, list.node, pages);

  return {
    title: "Queues",
    node,
    async refresh() {
      const asked = current;
      const { queues, next_cursor: next } = await get("v1/queues", { limit: PAGE, ...asked });
      if (asked !== current) return;
      error.hidden = true;
      const observed = queues.map((status) => [status.queue, observe(status)]);
      list.update(queues, asked.prefix ? `No queue has a name that begins with ${asked.prefix}.` : "There are no more queues.");
      welcome.hidden = queues.length > 0 || asked.prefix !== "" || asked.cursor !== "";
      list.node.hidden = !welcome.hidden;
      const names = new Set(queues.map(({ queue }) => queue));
      for (const queue of charts.keys()) if (!names.has(queue)) charts.delete(queue);
      for (const [queue, history] of observed) charts.get(queue)?.update(history);
      setText(tiles.queues, exact(queues.length) + (next ? "+" : ""));
      for (const state of ["waiting", "active", "delayed", "failed"]) {
        setText(tiles[state], count(total(queues, state)));
        tiles[state].classList.toggle("zero", total(queues, state) === 0);
      }
      setText(tiles.rate, rate(queues.reduce((sum, { queue }) => sum + (newest(queue, "finished") || 0), 0)));
      showPages(pages, [
        ["First page", asked.cursor && link(asked.prefix, "")], ["Next page", next && link(asked.prefix, next)],
      ]);
    },
    refused(refusal) {
      if (refusal.code === "cursor_not_found") location.hash = link(current.prefix, "");
      error.hidden = false;
      setText(error, visible(refusal.message));
      list.update([], "");
    },
    close: () => clearTimeout(timer),
  };
}

