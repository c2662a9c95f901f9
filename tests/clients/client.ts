// A client in TypeScript uses the types that openapi-typescript generates. The file must compile, and each line below a mark
// `@ts-expect-error` must be an error.
import type { components, paths } from "./drover.js";

type Schemas = components["schemas"];

// Optional fields may be left out or be null.
export const minimal: Schemas["NewMessage"] = { data: { hello: 1 } };
export const nulls: Schemas["NewMessage"] = { data: null, name: null, delay: null, priority: null, backoff: { max: null } };
export const all: Schemas["NewMessage"] = {
  data: 1, name: "welcome", id: "order-42", delay: "1h 30m", priority: -1, max_attempts: 5,
  backoff: { type: "fixed", delay: 1000, jitter: 0 }, timeout: 60_000, ttl: "1w", hold: "paid:42", headers: { a: "b" },
};
export const batch: Schemas["NewBatch"] = { messages: [minimal, all] };
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

// The following functions read responses.
type Post = paths["/v1/queues/{queue}/messages"]["post"]["responses"];

export function posted(response: Post[201]["content"]["application/json"]): string {
  return `${response.id} is ${response.state} since ${response.created_at}: ${response.max_attempts} attempts`;
}

export function duplicate(response: Post[200]["content"]["application/json"]): string {
  const isDuplicate: true = response.duplicate;
  return response.state === null ? `${response.id} is forgotten: ${isDuplicate}` : `${response.id} has ${response.attempts_made} attempts`;
}

export function leased(response: Schemas["Received"]): Schemas["Settle"] {
  return { settlements: response.messages.map(({ lease, data }) => ({ lease, action: "complete", result: data })) };
}

export function refused(problem: Schemas["Problem"]): string[] {
  return (problem.errors ?? []).map(({ pointer, detail }) => `${pointer}: ${detail}`);
}
