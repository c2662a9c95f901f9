// Texts for numbers, durations and instants, and for texts that others wrote.

/** Milliseconds by which the server's clock is ahead of the browser's. */
let ahead = 0;

/** Learns the server's clock from the header `Date`, which has whole seconds: smaller differences are not corrected. */
export function learnClock(date) {
  const difference = Date.parse(date) - Date.now();
  if (Number.isFinite(difference)) ahead = Math.abs(difference) > 2_000 ? difference : 0;
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A whole number with separators; a large one is shortened: 1,234 or 12.3K. */
export const count = (number) => (number < 10_000 ? whole : short).format(number);

export const exact = (number) => whole.format(number);

/** A number of events per second. */
export function rate(perSecond) {
  if (!Number.isFinite(perSecond)) return "–";
  if (perSecond === 0) return "0";
  return perSecond < 9.95 ? perSecond.toFixed(1) : count(Math.round(perSecond));
}

/**
 * Makes characters visible that are invisible or change the direction of the text around them, except joiners in scripts that
 * need them.
 */
export const visible = (text) =>
  text.replace(/[\0-\x08\v\f\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]|(?<![\u0590-\u1fff\u2190-\u{10ffff}])[\u200c\u200d]|[\u200c\u200d](?![\u0590-\u1fff\u2190-\u{10ffff}])/gu,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);

const UNITS = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1_000], ["ms", 1]];

/** A duration with its two largest units, "1h 5m", or with all. */
export function duration(millis, units = 2) {
  if (millis === 0) return "0";
  const first = UNITS.findIndex(([, size]) => millis >= size);
  if (first < 0) return `${millis} ms`;
  let rest = Math.round(millis);
  const parts = [];
  for (const [unit, size] of UNITS.slice(first, first + units)) {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    if (amount > 0 && !(unit === "ms" && first < 4 && units === 2)) parts.push(amount + unit);
  }
  return parts.join(" ");
}

/** An instant relative to now: "5s ago" or "in 2h". */
export function relative(instant) {
  const difference = Date.parse(instant) - Date.now() - ahead;
  if (Math.abs(difference) < 1_000) return "now";
  return difference < 0 ? `${duration(-difference)} ago` : `in ${duration(difference)}`;
}

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const time = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export const instant = (text) => clock.format(new Date(text));
export const timeOfDay = (text) => time.format(new Date(text));
