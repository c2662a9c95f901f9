/** The requests to the API for one queue, with types that are generated from the API's OpenAPI description. */
import type { CallOptions, Http, Request, Sent } from "./http.js";
import type { components, paths } from "./generated/api.js";

export type Schemas = components["schemas"];
export type Message = Schemas["Message"];
export type LeasedMessage = Schemas["LeasedMessage"];

type Method = "get" | "post" | "put" | "patch" | "delete";
type Json<T> = T extends { content: { "application/json": infer Body } } ? Body : undefined;

/** The type of the answer of an endpoint of the API. */
export type Answer<P extends keyof paths, M extends Method> = paths[P][M] extends { responses: infer R } ? Json<R[keyof R]> : never;
/** The type of the body of a request to an endpoint. */
export type Body<P extends keyof paths, M extends Method> = paths[P][M] extends { requestBody?: infer B } ? Json<NonNullable<B>> : never;
/** The type of the query of a request to an endpoint. */
export type Query<P extends keyof paths, M extends Method> = paths[P][M] extends { parameters: { query?: infer Q } } ? Q : never;

export interface Parts<P extends keyof paths, M extends Method> extends CallOptions {
    /** The id of the message, the name of the schedule or the key of the signal that the path names. */
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

    /** Sends a request to an endpoint, and repeats the request while the API is not available. */
    call<P extends keyof paths, M extends Method>(method: M, path: P, parts: Parts<P, M> = {}): Promise<Answer<P, M>> {
        const { body } = parts;
        const request = { ...this.#request(method, path, parts), body: body === undefined ? undefined : JSON.stringify(body) };
        return this.http.call(request, parts) as Promise<Answer<P, M>>;
    }

    /** Sends a POST without repeating the request. `body` is JSON text. */
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
