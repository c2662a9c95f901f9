//! The error responses of the API, each with its code and a text that says what is wrong and what to do.

use std::{fmt::Display, time::Duration};

use queue_core::{Error, MessageRef, Millis, Queue, QueueName};
use service::{
    Code, FieldError, Outage, Problem,
    wording::{self, shortened, unknown_with_suggestions},
};
use tracing::{error, warn};

use crate::{api::message::field_error, budget::BudgetExceeded};

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// An error response with a fixed text.
pub(crate) struct Refusal(Code, &'static str);

impl From<Refusal> for Problem {
    fn from(Refusal(code, detail): Refusal) -> Self {
        Self::new(code, detail)
    }
}

pub(crate) const INTERNAL_ERROR: Refusal =
    Refusal(Code::Internal, "this is a fault of the server; its log has the request's id");
pub(crate) const NO_IDEMPOTENCY_KEY_FOR_LINES: Refusal = Refusal(
    Code::InvalidIdempotencyKey,
    "lines of NDJSON are stored chunk by chunk, so one Idempotency-Key can't cover all lines; give each message an id of its own, \
     or send JSON batches",
);
pub(crate) const INVALID_LAST_EVENT_ID: Refusal = Refusal(
    Code::InvalidLastEventId,
    "the header Last-Event-ID must be an id that this stream sent, unchanged; without this header the stream begins with the \
     next event",
);
pub(crate) const INVALID_CURSOR: Refusal = Refusal(
    Code::CursorNotFound,
    "cursor must be the next_cursor of the page before, unchanged; without cursor the list begins at its start",
);
pub(crate) const NO_STATE_TO_PURGE: Refusal =
    Refusal(Code::InvalidQuery, "state is required: held, delayed, waiting, completed or failed");
pub(crate) const ACTIVE_MESSAGES_ARE_NOT_PURGED: Refusal = Refusal(
    Code::InvalidQuery,
    "active messages are not purged, because consumers work on them; cancel them one by one, or purge another state: held, \
     delayed, waiting, completed or failed",
);
pub(crate) const NO_CONFIRMATION: Refusal = Refusal(
    Code::InvalidQuery,
    "confirm is required, with the queue's name as its value, because this deletes everything in the queue",
);
pub(crate) const HOLD_KEY_WITH_ANOTHER_STATE: Refusal =
    Refusal(Code::InvalidQuery, "only held messages wait for a hold key: omit state, or ask for state=held");
pub(crate) const NOT_JSON_CONTENT: Refusal =
    Refusal(Code::UnsupportedMediaType, "the body must be JSON, sent with the header content-type: application/json");
pub(crate) const NOT_BATCH_CONTENT: Refusal = Refusal(
    Code::UnsupportedMediaType,
    "the body must be JSON, sent with the header content-type: application/json, or one message per line, with \
     content-type: application/x-ndjson",
);
pub(crate) const ENCODED_BODY: Refusal = Refusal(
    Code::UnsupportedMediaType,
    "the header content-encoding says that the body is compressed or encoded, but this server does not decode bodies; send \
     uncompressed JSON, without that header",
);
pub(crate) const UNEXPECTED_BODY: Refusal = Refusal(Code::UnexpectedBody, "this endpoint takes no body; send none");
pub(crate) const CROSS_ORIGIN: Refusal = Refusal(
    Code::ForeignOrigin,
    "a page of another origin sent this request, and nothing was done; add its origin to api.cors_origins if its pages may \
     call this server",
);
pub(crate) const BODY_NOT_RECEIVED: Refusal =
    Refusal(Code::IncompleteBody, "the body ended before it was complete; send it again");
pub(crate) const LEASE_GONE: Refusal = Refusal(
    Code::LeaseGone,
    "this lease is over, and nothing was changed: it lapsed, was settled before in another way, or its queue or message is gone; \
     lease again, and extend leases before they expire",
);

/// The value of the header `Retry-After` of most temporary errors, in seconds.
const RETRY_AFTER_SECS: u32 = 1;
/// The value of the header `Retry-After` when there are too many event streams, in seconds.
const EVENT_STREAM_RETRY_AFTER_SECS: u32 = 10;

/// The current outage of Redis, or lack of memory, because of which requests are refused. The outage is logged at most every
/// ten seconds, not for each refused request.
static REDIS_OUTAGE: Outage = Outage::reported_every(Duration::from_secs(10));
/// The current lack of a right of the Redis user. The lack of the right is logged independently of outages, at most every ten
/// seconds.
static MISSING_RIGHT_OUTAGE: Outage = Outage::reported_every(Duration::from_secs(10));

/// The error text for a Redis user that lacks a right, with an instruction for the operator.
pub(crate) const MISSING_RIGHT_DETAIL: &str =
    "the Redis user of this server lacks a right: its operator must compare the user's rights with docs/PRODUCTION.md";

/// Returns a temporary error, which has the header `Retry-After`.
fn temporary_error(code: Code, detail: impl Into<String>) -> Problem {
    Problem::new(code, detail).with_retry_after(RETRY_AFTER_SECS)
}

/// Returns the error response to a request that stores messages.
pub(crate) fn enqueue_error(error: Error) -> Problem {
    let may_be_stored = matches!(error, Error::Unavailable(_));
    let mut problem = queue_error(error);
    if may_be_stored {
        problem.detail = "Redis is not available now; try again. The messages may have been stored or not: if they \
                          have an Idempotency-Key or ids of your own, posting them again does not store them twice"
            .into();
    }
    problem
}

/// Returns the error response to a request that requires an existing queue. The queue may have been deleted since the request
/// checked that it exists.
pub(crate) fn existing_queue_error(error: Error, name: &QueueName) -> Problem {
    match error {
        Error::NoSuchQueue => queue_not_found(name),
        error => queue_error(error),
    }
}

pub(crate) fn queue_error(error: Error) -> Problem {
    match error {
        Error::Unavailable(reason) => {
            if REDIS_OUTAGE.record_failure() {
                warn!(reason, "Redis is not available: requests are refused");
            }
            let detail = "Redis is not available now; try again. The operation may have been done completely, in part \
                          or not at all; a repetition also applies to what was posted since";
            temporary_error(Code::Unavailable, detail)
        }
        Error::NotPermitted(reason) => {
            if MISSING_RIGHT_OUTAGE.record_failure() {
                error!(reason, "requests are refused");
            }
            let detail =
                format!("{MISSING_RIGHT_DETAIL}. The operation may have been done completely, in part or not at all");
            temporary_error(Code::Unavailable, detail)
        }
        Error::OutOfMemory => {
            if REDIS_OUTAGE.record_failure() {
                warn!("Redis is out of memory: messages are refused");
            }
            let detail = "Redis has reached its memory limit and nothing was stored; drain queues or raise maxmemory";
            Problem::new(Code::OutOfMemory, detail)
        }
        Error::QueueFull(max_length) => {
            let detail = format!(
                "the queue has its max_length of {max_length} messages that have not finished, and nothing was stored; \
                 try again when consumers have caught up, or raise max_length"
            );
            temporary_error(Code::QueueFull, detail)
        }
        Error::Overloaded => {
            if REDIS_OUTAGE.record_failure() {
                warn!("posts arrive faster than Redis stores them: messages are refused");
            }
            let detail = "posts arrive faster than Redis stores them, and nothing of this request was stored; try again later, \
                          and post many messages in batches";
            temporary_error(Code::Overloaded, detail)
        }
        Error::ExclusiveQueue => {
            let detail = "the queue is exclusive, so its messages have no group, and nothing was changed; omit group, use another \
                          queue, or make this queue shared";
            Problem::new(Code::QueueExclusive, detail)
        }
        Error::KeyReused => {
            let detail = "this Idempotency-Key came with another request before, and nothing was stored; use a new random \
                          key for a new request, and repeat an old one unchanged";
            Problem::new(Code::IdempotencyKeyReused, detail)
        }
        Error::InvalidCursor => INVALID_CURSOR.into(),
        Error::TooManyMessages(_) | Error::TooManyBytes(_) | Error::ProgressTooLarge(_) => {
            Problem::new(Code::BodyTooLarge, error.to_string())
        }
        Error::InvalidSchedule { field, problem } => {
            invalid_field(Code::InvalidSchedule, field_error((field, problem)))
        }
        Error::TooManySchedules => {
            let max = Queue::MAX_SCHEDULES;
            let detail = format!(
                "the queue has its maximum of {max} schedules, and nothing was stored; delete one of them first"
            );
            Problem::new(Code::TooManySchedules, detail)
        }
        Error::InvalidSetting(invalid) => invalid_setting(&invalid.setting, &invalid.problem, invalid.is_conflict),
        other => {
            error!(error = %other, "a request could not be served");
            INTERNAL_ERROR.into()
        }
    }
}

pub(crate) fn invalid_idempotency_key(detail: impl Display) -> Problem {
    let detail = format!(
        "the header Idempotency-Key can't be used: {detail}; it is 1 to 255 visible ASCII characters, bare or in quotes"
    );
    Problem::new(Code::InvalidIdempotencyKey, detail)
}

pub(crate) fn too_many_listeners(exceeded: BudgetExceeded) -> Problem {
    let (code, detail) = match exceeded {
        BudgetExceeded::All => (
            Code::TooManyListeners,
            "this server has its maximum number of event streams (api.max_listeners); try again, another server \
             may have room"
                .into(),
        ),
        BudgetExceeded::OfClient(key, max) => (
            Code::TooManyListenersOfKey,
            format!(
                "this server has {max} event streams with {key}, which is the maximum (api.max_listeners_per_key); close one \
                 of them first"
            ),
        ),
    };
    Problem::new(code, detail).with_retry_after(EVENT_STREAM_RETRY_AFTER_SECS)
}

pub(crate) fn too_many_waits(exceeded: BudgetExceeded) -> Problem {
    let waiting_requests = match exceeded {
        BudgetExceeded::All => "the maximum number of requests waits".to_owned(),
        BudgetExceeded::OfClient(key, max) => format!("{max} requests with {key} wait"),
    };
    let detail = format!(
        "{waiting_requests} at this server already (api.max_waits_per_key), and nothing was done; try again when one is over, or \
         without wait"
    );
    temporary_error(Code::TooManyWaits, detail)
}

pub(crate) fn no_memory_for_body(exceeded: BudgetExceeded) -> Problem {
    no_memory(
        exceeded,
        "so this body was not received; send it again later, or send fewer and smaller bodies at a time",
    )
}

pub(crate) fn no_memory_for_response(exceeded: BudgetExceeded) -> Problem {
    no_memory(
        exceeded,
        "and nothing was done; read the responses that were not read yet, and ask again later, for less at a time",
    )
}

#[cold]
fn no_memory(exceeded: BudgetExceeded, advice: &str) -> Problem {
    let used_amount = match exceeded {
        BudgetExceeded::All => "bodies and responses use the maximum memory of the server (api.max_body_memory)".into(),
        BudgetExceeded::OfClient(client, max) => format!(
            "bodies from {client} and responses to it use nearly {max} bytes of memory, the maximum for one client (a part of \
             api.max_body_memory)"
        ),
    };
    if REDIS_OUTAGE.record_failure() {
        warn!("a request is refused: {used_amount}");
    }
    temporary_error(Code::Overloaded, format!("{used_amount}, {advice}"))
}

pub(crate) fn invalid_query(detail: impl Display) -> Problem {
    Problem::new(Code::InvalidQuery, detail.to_string())
}

pub(crate) fn cursor_of_another_list(list: impl Display) -> Problem {
    let detail = format!("this cursor continues a list {list}; ask for that list, or omit the cursor");
    Problem::new(Code::CursorNotFound, detail)
}

pub(crate) fn wrong_confirmation(queue: &QueueName) -> Problem {
    let detail = format!(
        "this deletes the queue with everything in it; say so with its name: DELETE /v1/queues/{queue}?confirm={queue}"
    );
    Problem::new(Code::NotConfirmed, detail)
}

pub(crate) fn message_not_found(queue: &QueueName, id: &MessageRef) -> Problem {
    let detail = format!("queue {queue} has no message {id}: it never had, or does not keep it any longer");
    Problem::new(Code::MessageNotFound, detail)
}

pub(crate) fn queue_not_found(queue: &QueueName) -> Problem {
    let detail = format!(
        "there is no queue {queue}; it is created by its first message, POST /v1/queues/{queue}/messages, or its first settings, PATCH \
         /v1/queues/{queue}"
    );
    Problem::new(Code::QueueNotFound, detail)
}

pub(crate) fn line_too_large(limit: usize) -> Problem {
    let detail = format!("the line is longer than {limit} bytes; send less, or raise api.body_limit");
    Problem::new(Code::BodyTooLarge, detail)
}

pub(crate) fn body_too_large(limit: usize) -> Problem {
    let detail = format!("the body is larger than {limit} bytes; send less at once, or raise api.body_limit");
    Problem::new(Code::BodyTooLarge, detail)
}

pub(crate) fn body_too_slow(limit: Millis) -> Problem {
    let detail = format!("the body was not complete after {limit}; send it again within that time");
    Problem::new(Code::RequestTimeout, detail)
}

pub(crate) fn server_is_stopping() -> Problem {
    temporary_error(Code::Stopping, "this server is stopping; send the rest again, to another server")
}

pub(crate) fn lines_too_slow(limit: Millis) -> Problem {
    let detail = format!("no message came for {limit}; send the rest again, and end the body when there is no more");
    Problem::new(Code::RequestTimeout, detail)
}

pub(crate) fn not_json(detail: impl Display) -> Problem {
    Problem::new(Code::InvalidJson, format!("the body is not the JSON that is expected: {detail}"))
}

pub(crate) fn line_not_json(detail: impl Display) -> Problem {
    Problem::new(Code::InvalidJson, format!("the line is not the JSON of a message: {detail}"))
}

fn invalid_setting(setting: &str, problem: &str, is_conflict: bool) -> Problem {
    let path = setting.trim_matches('.');
    let escaped_path = shortened(path).replace('~', "~0").replace('/', "~1").replace('.', "/");
    let pointer = if path.is_empty() { String::new() } else { format!("/{escaped_path}") };
    let detail = match (wording::unknown_field(problem), problem.split('`').nth(1)) {
        (Some((word, known)), _) => shortened(&unknown_with_suggestions(&shortened(word), known.iter().copied())),
        (None, Some(word)) if problem.starts_with("missing field") => {
            format!("{word} is required here: there is no earlier value to keep")
        }
        _ => wording::data_mistake(problem),
    };
    let code = if is_conflict { Code::SettingsConflict } else { Code::InvalidSettings };
    invalid_field(code, FieldError { pointer, detail })
}

/// Returns the error response to a body with an invalid field.
pub(crate) fn invalid_field(code: Code, error: FieldError) -> Problem {
    let detail = format!("{}: {}", error.pointer, error.detail);
    Problem::new(code, detail).with_errors(vec![error])
}

pub(crate) fn too_many_settlements(count: usize) -> Problem {
    let detail = format!("1 to {} leases are settled at once, these are {count}; split them", Queue::MAX_MESSAGES);
    Problem::new(Code::TooManySettlements, detail)
}

pub(crate) fn too_many_messages(count: usize) -> Problem {
    let detail = format!("a batch has 1 to {} messages, this one has {count}; split it", Queue::MAX_MESSAGES);
    Problem::new(Code::TooManyMessages, detail)
}

#[cfg(test)]
mod tests {
    use queue_core::settings::Settings;
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_word_in_settings_is_repeated_completely_in_the_error() {
        for (patch, expected) in [
            (json!({"a`b": 1}), "/a`b: unknown; expected one of visibility_timeout, "),
            (json!({"max_`attempts": 1}), "/max_`attempts: unknown: did you mean \"max_attempts\"?"),
            (json!({"limiter": null}), "/limiter: unknown: did you mean \"rate_limit\"?"),
            (
                json!({"backoff": {"type": "a`b"}}),
                "/backoff/type: \"a`b\" is unknown; expected one of fixed, exponential",
            ),
        ] {
            let problem = queue_error(Settings::default().with_patch(&patch).unwrap_err().into());
            assert!(problem.detail.starts_with(expected), "{}", problem.detail);
        }
    }
}
