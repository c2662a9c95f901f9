// A client in TypeScript uses the types that openapi-typescript generates. The file must compile, and each line below a mark
// `@ts-expect-error` must be an error.
import type { components, paths } from "./drover.js";

type Schemas = components["schemas"];

// Optional fields may be left out or be null.
export const least: Schemas["NewMessage"] = { data: { hello: 1 } };
export const nulls: Schemas["NewMessage"] = { data: null, name: null, delay: null, priority: null, backoff: { max: null } };
export const all: Schemas["NewMessage"] = {
  data: 1, name: "welcome", id: "order-42", delay: "1h 30m", priority: -1, max_attempts: 5,
  backoff: { type: "fixed", delay: 1000, jitter: 0 }, timeout: 60_000, ttl: "1w", hold: "paid:42", headers: { a: "b" },
};
export const batch: Schemas["NewBatch"] = { messages: [least, all] };
export const settings: Schemas["SettingsPatch"] = { max_attempts: 5, retention: { failed: null } };
export const receive: Schemas["Receive"] = {};
export const signal: Schemas["Signal"] = { data: { amount: 12 } };
export const complete: Schemas["Complete"] = { lease: "…" };
export const fails: Schemas["Fail"][] = [
  { lease: "…" }, { lease: "…", error: "boom" }, { lease: "…", error: { message: "boom" }, retry: false },
];
export const settle: Schemas["Settle"] = {
  settlements: [{ lease: "…", action: "complete", result: 1 }, { lease: "…", action: "fail", error: "boom" }],
};

// @ts-expect-error: a message has data
export const empty: Schemas["NewMessage"] = {};
// @ts-expect-error: there is no such field
export const misspelt: Schemas["NewMessage"] = { data: 1, dealy: 1 };

// Answers.
type Post = paths["/v1/queues/{queue}/messages"]["post"]["responses"];

export function posted(answer: Post[201]["content"]["application/json"]): string {
  return `${answer.id} is ${answer.state} since ${answer.created_at}: ${answer.max_attempts} attempts`;
}

export function duplicate(answer: Post[200]["content"]["application/json"]): string {
  const isDuplicate: true = answer.duplicate;
  return answer.state === null ? `${answer.id} is forgotten: ${isDuplicate}` : `${answer.id} has ${answer.attempts_made} attempts`;
}

export function leased(answer: Schemas["Received"]): Schemas["Settle"] {
  return { settlements: answer.messages.map(({ lease, data }) => ({ lease, action: "complete", result: data })) };
}

export function refused(problem: Schemas["Problem"]): string[] {
  return (problem.errors ?? []).map(({ pointer, detail }) => `${pointer}: ${detail}`);
}
