//! What is said when something can't be done. Each refusal stands once.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use queue_core::{Error, MAX_MESSAGES_PER_CALL, MessageRef, Millis, QueueName};
use service::{FieldError, Problem};
use tracing::{error, warn};

/// Says when to try again, in seconds, when Redis is away.
const RETRY_AFTER_SECS: u32 = 1;

/// An outage refuses every request; it is told once in ten seconds, not once a request.
static NOT_TOLD_LATELY: NowAndThen = NowAndThen { last: Mutex::new(None) };

struct NowAndThen {
    last: Mutex<Option<Instant>>,
}

impl NowAndThen {
    const EVERY: Duration = Duration::from_secs(10);

    fn may_tell(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= Self::EVERY);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

pub(crate) fn from_queue(error: Error) -> Problem {
    match error {
        Error::Unavailable(reason) => {
            if NOT_TOLD_LATELY.may_tell() {
                warn!(reason, "Redis is not available: requests are refused");
            }
            let detail = "Redis is not available now; try again. A message that was posted may have been stored or \
                          not: post it with an id of your own, and it is not stored twice";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).with_retry_after(RETRY_AFTER_SECS)
        }
        Error::OutOfMemory => {
            if NOT_TOLD_LATELY.may_tell() {
                warn!("Redis is out of memory: messages are refused");
            }
            let detail = "Redis has reached its memory limit and nothing was stored; drain queues or raise maxmemory";
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "out_of_memory", detail)
        }
        Error::QueueFull(max_length) => {
            let detail = format!(
                "the queue has its max_length of {max_length} messages that have not finished, and nothing was stored; \
                 try again when consumers have caught up, or raise max_length"
            );
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail).with_retry_after(RETRY_AFTER_SECS)
        }
        Error::KeyReused => {
            let detail = "this Idempotency-Key came with another request before, and nothing was stored; draw a new key \
                          for a new request, and repeat an old one unchanged";
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
        }
        Error::TooMuch(what) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", what.to_string()),
        other => {
            error!(error = %other, "a request could not be served");
            let detail = "this is a fault of the server; its log has the request's id";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        }
    }
}

pub(crate) fn invalid_queue_name(detail: impl Display) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_queue_name", detail.to_string())
}

pub(crate) fn invalid_id(detail: impl Display) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_id", detail.to_string())
}

pub(crate) fn invalid_query(detail: impl Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_query", detail.to_string())
}

pub(crate) fn message_not_found(queue: &QueueName, id: &MessageRef) -> Problem {
    let detail = format!("queue {queue} has no message {id}: it never had, or does not keep it any longer");
    Problem::new(StatusCode::NOT_FOUND, "message_not_found", detail)
}

pub(crate) fn queue_not_found(queue: &QueueName) -> Problem {
    let detail =
        format!("there is no queue {queue}; it begins with its first message: POST /v1/queues/{queue}/messages");
    Problem::new(StatusCode::NOT_FOUND, "queue_not_found", detail)
}

pub(crate) fn not_json_content() -> Problem {
    let detail = "the body must be JSON, sent with the header content-type: application/json";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
}

pub(crate) fn body_too_large(limit: usize) -> Problem {
    let detail = format!("the body is larger than {limit} bytes; send less at once, or raise api.body_limit");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

pub(crate) fn body_not_received() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", "the body ended before it was complete; send it again")
}

pub(crate) fn body_too_slow(limit: Millis) -> Problem {
    let detail = format!("the body was not complete after {limit}; send it again, faster");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
}

pub(crate) fn not_json(detail: impl Display) -> Problem {
    let detail = format!("the body is not the JSON that is expected: {detail}");
    Problem::new(StatusCode::BAD_REQUEST, "invalid_json", detail)
}

pub(crate) fn invalid_message(errors: Vec<FieldError>) -> Problem {
    let first = errors.first().map(|error| format!("{}: {}", error.pointer, error.detail)).unwrap_or_default();
    let detail = match errors.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more)", more - 1),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_message", detail).with_errors(errors)
}

pub(crate) fn too_many_messages(count: usize) -> Problem {
    let detail = format!("a batch has 1 to {MAX_MESSAGES_PER_CALL} messages, this one has {count}; split it");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many_messages", detail)
}
