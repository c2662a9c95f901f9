//! Every code of a refusal, with its status and the way out.

/// A code as it is documented.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) status: u16,
    pub(crate) word: &'static str,
    /// What to do.
    pub(super) way_out: &'static str,
}

const fn code(status: u16, word: &'static str, way_out: &'static str) -> Code {
    Code { status, word, way_out }
}

/// Every code that there is. A test holds it against the sources and docs/API.md.
pub(crate) const CODES: &[Code] = &[
    code(400, "bad_request", "the request can't be understood: mend it"),
    code(
        400,
        "malformed_request",
        "the host header or the transfer encoding is not as HTTP/1.1 has it: mend it and connect anew",
    ),
    code(400, "invalid_json", "send JSON: an object, each field once"),
    code(400, "incomplete_body", "the connection ended early: send again"),
    code(400, "unexpected_body", "send no body here"),
    code(400, "invalid_query", "see detail: a query parameter is unknown, missing or out of range"),
    code(
        400,
        "invalid_idempotency_key",
        "send 1 to 255 visible ASCII characters, bare or in quotes, and none with NDJSON",
    ),
    code(400, "invalid_last_event_id", "send an id that the stream gave, unchanged, or none"),
    code(401, "unauthorized", "send a valid key: Authorization: Bearer drv_…"),
    code(403, "forbidden", "use a key that has the scope for this queue"),
    code(403, "foreign_origin", "list the origin of the page in api.cors_origins, if it may call this server"),
    code(404, "not_found", "there is no such path: look here for those there are"),
    code(404, "queue_not_found", "post a message or settings first: the queue begins with them"),
    code(404, "message_not_found", "the message is unknown, or no longer kept"),
    code(404, "cursor_not_found", "go on with the next_cursor of the page before, or begin anew without it"),
    code(405, "method_not_allowed", "use a method that the Allow header lists"),
    code(408, "request_timeout", "send the request again, faster"),
    code(409, "message_held", "see detail: the message is held"),
    code(409, "message_delayed", "see detail: the message is delayed"),
    code(409, "message_waiting", "see detail: the message is waiting"),
    code(409, "message_active", "see detail: the message is active"),
    code(409, "message_completed", "see detail: the message is completed"),
    code(409, "message_failed", "see detail: the message has failed"),
    code(409, "settings_conflict", "see errors: change the settings that contradict each other together"),
    code(409, "not_confirmed", "confirm with the queue's own name"),
    code(410, "lease_gone", "the lease is over, and nothing was changed: lease anew"),
    code(413, "body_too_large", "send less at once, or NDJSON"),
    code(415, "unsupported_media_type", "say with content-type that the body is JSON, and send it uncompressed"),
    code(
        421,
        "foreign_host",
        "ask by localhost or an address, or configure keys: without them, no other name is answered to",
    ),
    code(422, "invalid_message", "see errors"),
    code(422, "invalid_settings", "see errors"),
    code(422, "invalid_signal", "see errors"),
    code(422, "invalid_receive", "see errors"),
    code(422, "invalid_settlement", "see errors"),
    code(422, "invalid_queue_name", "see detail"),
    code(422, "invalid_id", "see detail"),
    code(422, "invalid_signal_key", "see detail"),
    code(422, "too_many_messages", "send 1 to 1000, or any number as NDJSON"),
    code(422, "too_many_settlements", "send 1 to 1000"),
    code(422, "idempotency_key_reused", "draw a new key for a new request; nothing was stored"),
    code(429, "queue_full", "try again after Retry-After seconds; nothing was stored"),
    code(429, "rate_limited", "try again after Retry-After seconds; nothing was done"),
    code(429, "too_many_listeners", "close a stream of this key first"),
    code(429, "too_many_waits", "try again when one of the requests of this key that wait is over, or without wait"),
    code(500, "internal", "this is a fault of the server: its log has the request's id"),
    code(503, "unavailable", "Redis is away: try again after Retry-After seconds"),
    code(
        503,
        "overloaded",
        "the server has no memory for another body, or more is posted than Redis takes; nothing was stored: try again after Retry-After seconds",
    ),
    code(503, "stopping", "the server stops: send the rest again"),
    code(503, "too_many_listeners", "try again after Retry-After seconds, another server may have room"),
    code(503, "not_ready", "see detail: wait until the process is ready"),
    code(507, "out_of_memory", "drain queues or raise Redis's maxmemory; nothing was stored"),
];

/// The codes of this word: one, or one for each status that it comes with.
pub(super) fn of_word(word: &str) -> impl Iterator<Item = &'static Code> {
    CODES.iter().filter(move |code| code.word == word)
}
