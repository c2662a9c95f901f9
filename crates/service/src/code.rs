//! All error codes of the API, each with its HTTP status and an instruction. The `OpenAPI` description is derived from the list of
//! codes, and a test compares docs/API.md with the list.

use axum::http::StatusCode;
use serde::{Serialize, Serializer};

/// The list of codes: variant, status, the word that programs match, and the instruction.
macro_rules! codes {
    ($($variant:ident($status:ident, $word:literal, $help:literal),)*) => {
        /// The error code of a response, which a program can match.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $(#[doc = $help] $variant,)*
        }

        impl Code {
            /// All error codes, ordered by status.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the HTTP status of responses with the code.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)*
                }
            }

            /// Returns the error code as the word that client programs compare.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// Returns the instruction that tells a person what to do about the error.
            pub fn help(self) -> &'static str {
                match self {
                    $(Self::$variant => $help,)*
                }
            }
        }
    };
}

codes! {
    MalformedRequest(BAD_REQUEST, "malformed_request", "correct `host` or `transfer-encoding`; the connection is closed"),
    BadRequest(BAD_REQUEST, "bad_request", "see `detail`"),
    InvalidJson(BAD_REQUEST, "invalid_json", "send a JSON object without duplicate fields"),
    IncompleteBody(BAD_REQUEST, "incomplete_body", "the body ended early: send it again"),
    UnexpectedBody(BAD_REQUEST, "unexpected_body", "send no body"),
    InvalidQuery(BAD_REQUEST, "invalid_query", "see `detail`"),
    InvalidLastEventId(BAD_REQUEST, "invalid_last_event_id", "see `detail`"),
    InvalidIdempotencyKey(BAD_REQUEST, "invalid_idempotency_key", "see `detail`"),
    Unauthorized(UNAUTHORIZED, "unauthorized", "send a valid key"),
    Forbidden(FORBIDDEN, "forbidden", "the key lacks the `scope` for this queue"),
    ForeignOrigin(FORBIDDEN, "foreign_origin", "add the web page's origin to `api.cors_origins`"),
    NotFound(NOT_FOUND, "not_found", "the path is unknown: see `/openapi.json`"),
    QueueNotFound(NOT_FOUND, "queue_not_found", "post a message or patch the settings first"),
    MessageNotFound(NOT_FOUND, "message_not_found", "unknown, or no longer kept"),
    SignalNotFound(NOT_FOUND, "signal_not_found", "unknown, or no longer kept"),
    ScheduleNotFound(NOT_FOUND, "schedule_not_found", "unknown, or no longer kept"),
    CursorNotFound(NOT_FOUND, "cursor_not_found", "`cursor` is not of this list: begin without it"),
    MethodNotAllowed(METHOD_NOT_ALLOWED, "method_not_allowed", "see the header `Allow`"),
    RequestTimeout(REQUEST_TIMEOUT, "request_timeout", "the body or a line took longer than `api.request_timeout`"),
    MessageHeld(CONFLICT, "message_held", "the message's state forbids this: see `detail`"),
    MessageDelayed(CONFLICT, "message_delayed", "the message's state forbids this: see `detail`"),
    MessageWaiting(CONFLICT, "message_waiting", "the message's state forbids this: see `detail`"),
    MessageActive(CONFLICT, "message_active", "the message's state forbids this: see `detail`"),
    MessageCompleted(CONFLICT, "message_completed", "the message's state forbids this: see `detail`"),
    MessageFailed(CONFLICT, "message_failed", "the message's state forbids this: see `detail`"),
    SettingsConflict(CONFLICT, "settings_conflict", "see `errors`"),
    QueueExclusive(CONFLICT, "queue_exclusive", "the queue is exclusive: omit `group`"),
    TooManySchedules(CONFLICT, "too_many_schedules", "the queue has 1,000 schedules: delete one"),
    NotConfirmed(CONFLICT, "not_confirmed", "confirm with the queue's name: `?confirm=`"),
    LeaseGone(GONE, "lease_gone", "the lease is over: lease again"),
    BodyTooLarge(PAYLOAD_TOO_LARGE, "body_too_large", "the body or a line exceeds `api.body_limit`: send less, or NDJSON"),
    UnsupportedMediaType(UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "send `content-type: application/json`, and no `content-encoding`"),
    ForeignHost(MISDIRECTED_REQUEST, "foreign_host", "without keys on loopback, `host` must be `localhost` or an address"),
    InvalidMessage(UNPROCESSABLE_ENTITY, "invalid_message", "see `errors`"),
    InvalidSettings(UNPROCESSABLE_ENTITY, "invalid_settings", "see `errors`"),
    InvalidSchedule(UNPROCESSABLE_ENTITY, "invalid_schedule", "see `errors`"),
    InvalidSignal(UNPROCESSABLE_ENTITY, "invalid_signal", "see `errors`"),
    InvalidReceive(UNPROCESSABLE_ENTITY, "invalid_receive", "see `errors`"),
    InvalidSettlement(UNPROCESSABLE_ENTITY, "invalid_settlement", "see `errors`"),
    InvalidQueueName(UNPROCESSABLE_ENTITY, "invalid_queue_name", "see `detail`"),
    InvalidId(UNPROCESSABLE_ENTITY, "invalid_id", "see `detail`"),
    InvalidSignalKey(UNPROCESSABLE_ENTITY, "invalid_signal_key", "see `detail`"),
    InvalidScheduleName(UNPROCESSABLE_ENTITY, "invalid_schedule_name", "see `detail`"),
    TooManyMessages(UNPROCESSABLE_ENTITY, "too_many_messages", "send 1 to 1,000"),
    TooManySettlements(UNPROCESSABLE_ENTITY, "too_many_settlements", "send 1 to 1,000"),
    IdempotencyKeyReused(UNPROCESSABLE_ENTITY, "idempotency_key_reused", "the key came with another request: use a new key"),
    QueueFull(TOO_MANY_REQUESTS, "queue_full", "the queue has `max_length` messages"),
    RateLimited(TOO_MANY_REQUESTS, "rate_limited", "the key has used its limit"),
    TooManyListenersOfKey(TOO_MANY_REQUESTS, "too_many_listeners", "the key has `api.max_listeners_per_key` event streams: close one"),
    TooManyWaits(TOO_MANY_REQUESTS, "too_many_waits", "the key has `api.max_waits_per_key` waiting requests"),
    Internal(INTERNAL_SERVER_ERROR, "internal", "the server failed: search its log for the `request_id`"),
    Unavailable(SERVICE_UNAVAILABLE, "unavailable", "Redis is not available; the request may have been done: try again"),
    Overloaded(SERVICE_UNAVAILABLE, "overloaded", "the server lacks memory, or too many posts wait for Redis"),
    Stopping(SERVICE_UNAVAILABLE, "stopping", "the server stops during NDJSON: send the rest again"),
    TooManyListeners(SERVICE_UNAVAILABLE, "too_many_listeners", "the server has `api.max_listeners` event streams"),
    NotReady(SERVICE_UNAVAILABLE, "not_ready", "`/readyz` only: see `detail`"),
    OutOfMemory(INSUFFICIENT_STORAGE, "out_of_memory", "Redis is at its `maxmemory`: drain queues, or raise it"),
}

impl Code {
    /// Returns the title of problems with this code: the standard phrase for the status.
    pub fn title(self) -> &'static str {
        self.status().canonical_reason().unwrap_or("Error")
    }

    /// Returns the code for an error response of a library, of which only the status is known.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            status if status.is_server_error() => Self::Internal,
            _ => Self::BadRequest,
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the list of errors for docs/API.md: codes of one list item have one status and one instruction.
    fn error_list_of_api_document() -> Vec<String> {
        let is_same_item = |one: &Code, other: &Code| (one.status(), one.help()) == (other.status(), other.help());
        let list_item = |codes: &[Code]| {
            let words: Vec<String> = codes.iter().map(|code| format!("`{}`", code.as_str())).collect();
            format!("- {} {}: {}", codes[0].status().as_u16(), words.join(", "), codes[0].help())
        };
        Code::ALL.chunk_by(is_same_item).map(list_item).collect()
    }

    #[test]
    fn error_list_in_the_document_has_every_code() {
        let api_page = include_str!("../../../docs/API.md");
        let (_, found) = api_page.split_at(api_page.find("\n- 400 ").unwrap());
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            words(found),
            words(&error_list_of_api_document().join("\n")),
            "write this into docs/API.md:\n{}\n",
            error_list_of_api_document().join("\n")
        );
    }
}
