/** The API's requests for one queue, typed by the API's own description. */
import type { CallOptions, Http, Request, Sent } from "./http.js";
import type { components, paths } from "./generated/api.js";

export type Schemas = components["schemas"];
export type Message = Schemas["Message"];
export type LeasedMessage = Schemas["LeasedMessage"];

type Method = "get" | "post" | "put" | "patch" | "delete";
type Json<T> = T extends { content: { "application/json": infer Body } } ? Body : undefined;

/** The answers of an endpoint. */
export type Answer<P extends keyof paths, M extends Method> = paths[P][M] extends { responses: infer R } ? Json<R[keyof R]> : never;
/** The body of an endpoint's request. */
export type Body<P extends keyof paths, M extends Method> = paths[P][M] extends { requestBody?: infer B } ? Json<NonNullable<B>> : never;
/** The query of an endpoint's request. */
export type Query<P extends keyof paths, M extends Method> = paths[P][M] extends { parameters: { query?: infer Q } } ? Q : never;

export interface Parts<P extends keyof paths, M extends Method> extends CallOptions {
    /** The message, schedule or signal that the path names. */
    name?: string;
    body?: Body<P, M>;
    query?: Query<P, M>;
    contentType?: string;
    idempotencyKey?: string | undefined;
    wait?: number | undefined;
    limit?: number | undefined;
}

export class Api {
    constructor(
        readonly http: Http,
        readonly queue: string,
    ) {}

    /** Calls an endpoint, and repeats the request while the API is away. */
    call<P extends keyof paths, M extends Method>(method: M, path: P, parts: Parts<P, M> = {}): Promise<Answer<P, M>> {
        const { body } = parts;
        const request = { ...this.#request(method, path, parts), body: body === undefined ? undefined : JSON.stringify(body) };
        return this.http.call(request, parts) as Promise<Answer<P, M>>;
    }

    /** Sends a POST once, with a body that is JSON already. */
    post<P extends keyof paths>(path: P, body: string, parts: Pick<Request, "wait" | "limit">): Sent & { answer: Promise<Answer<P, "post">> } {
        const request = { ...this.#request("post", path, {}), body, ...parts };
        return this.http.send(request) as Sent & { answer: Promise<Answer<P, "post">> };
    }

    #request<P extends keyof paths, M extends Method>(method: M, path: P, parts: Parts<P, M>): Request {
        const { name, query, contentType, idempotencyKey, wait, limit } = parts;
        const fullPath = path
            .replace("{queue}", encodeURIComponent(this.queue))
            .replace(/\{(?:id|name|key)\}/, () => encodeURIComponent(name ?? ""));
        const pairs = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null);
        const search = new URLSearchParams(pairs.map(([key, value]) => [key, String(value)] as [string, string])).toString();
        return {
            method: method.toUpperCase() as Request["method"],
            path: search === "" ? fullPath : `${fullPath}?${search}`,
            contentType,
            idempotencyKey,
            wait,
            limit,
        };
    }
}
