//! What is said when something can't be done. Each refusal stands once.

use std::{fmt::Display, time::Duration};

use queue_core::{Error, MessageRef, Millis, Queue, QueueName};
use service::{
    Code, FieldError, Problem, Trouble, unknown,
    wording::{self, cut},
};
use tracing::{error, warn};

use crate::budget::Full;

/// Says when to try again, in seconds, when Redis is away.
const RETRY_AFTER_SECS: u32 = 1;
/// The same, when there is no room for another one who listens.
const LISTENERS_RETRY_AFTER_SECS: u32 = 10;

/// An outage refuses every request; it is told once in ten seconds, not once a request.
static OUTAGE: Trouble = Trouble::told_every(Duration::from_secs(10));

/// For what stores messages.
pub(crate) fn from_enqueue(error: Error) -> Problem {
    let may_be_stored = matches!(error, Error::Unavailable(_));
    let mut problem = from_queue(error);
    if may_be_stored {
        problem.detail = "Redis is not available now; try again. What was posted may have been stored or not: post it \
                          with an Idempotency-Key, or with ids of your own, and it is not stored twice"
            .into();
    }
    problem
}

/// For what begins no queue: it may have gone since it was looked for.
pub(crate) fn of_queue(error: Error, name: &QueueName) -> Problem {
    match error {
        Error::NoSuchQueue => queue_not_found(name),
        error => from_queue(error),
    }
}

pub(crate) fn from_queue(error: Error) -> Problem {
    match error {
        Error::Unavailable(reason) => {
            if OUTAGE.goes_on() {
                warn!(reason, "Redis is not available: requests are refused");
            }
            let detail = "Redis is not available now; try again. What was asked for may have been done, in part or not \
                          at all: it is safe to repeat";
            Problem::new(Code::Unavailable, detail).with_retry_after(RETRY_AFTER_SECS)
        }
        Error::OutOfMemory => {
            if OUTAGE.goes_on() {
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
            Problem::new(Code::QueueFull, detail).with_retry_after(RETRY_AFTER_SECS)
        }
        Error::Overloaded => {
            if OUTAGE.goes_on() {
                warn!("more is posted than Redis takes: messages are refused");
            }
            let detail = "more is posted than Redis takes, and nothing of this was stored; try again later, and post many \
                          messages in batches";
            Problem::new(Code::Overloaded, detail).with_retry_after(RETRY_AFTER_SECS)
        }
        Error::KeyReused => {
            let detail = "this Idempotency-Key came with another request before, and nothing was stored; draw a new key \
                          for a new request, and repeat an old one unchanged";
            Problem::new(Code::IdempotencyKeyReused, detail)
        }
        Error::InvalidCursor => invalid_cursor(),
        Error::TooManyMessages(_) | Error::TooManyBytes(_) | Error::ProgressTooLarge(_) => {
            Problem::new(Code::BodyTooLarge, error.to_string())
        }
        Error::InvalidSetting(invalid) => invalid_settings(&invalid.setting, &invalid.problem, invalid.is_conflict),
        other => {
            error!(error = %other, "a request could not be served");
            internal()
        }
    }
}

pub(crate) fn internal() -> Problem {
    let detail = "this is a fault of the server; its log has the request's id";
    Problem::new(Code::Internal, detail)
}

pub(crate) fn invalid_queue_name(detail: impl Display) -> Problem {
    Problem::new(Code::InvalidQueueName, detail.to_string())
}

pub(crate) fn invalid_id(detail: impl Display) -> Problem {
    Problem::new(Code::InvalidId, detail.to_string())
}

pub(crate) fn invalid_signal_key(detail: impl Display) -> Problem {
    Problem::new(Code::InvalidSignalKey, detail.to_string())
}

pub(crate) fn invalid_idempotency_key(detail: impl Display) -> Problem {
    let detail = format!(
        "the header Idempotency-Key can't be used: {detail}; it is 1 to 255 visible ASCII characters, bare or in quotes"
    );
    Problem::new(Code::InvalidIdempotencyKey, detail)
}

pub(crate) fn no_key_for_lines() -> Problem {
    let detail = "lines of NDJSON are stored chunk by chunk, so one Idempotency-Key can't stand for them; give each message \
                  an id of its own, or send JSON batches";
    Problem::new(Code::InvalidIdempotencyKey, detail)
}

pub(crate) fn invalid_last_event_id() -> Problem {
    let detail = "the header Last-Event-ID must be an id that this stream gave, unchanged; without it the stream begins with \
                  what happens from now on";
    Problem::new(Code::InvalidLastEventId, detail)
}

pub(crate) fn too_many_listeners(full: &Full) -> Problem {
    let (code, detail) = match full {
        Full::All => (
            Code::TooManyListeners,
            "as many listen to events of this server as may (api.max_listeners); try again, another server may have room".into(),
        ),
        Full::OfClient(key, most) => (
            Code::TooManyListenersOfKey,
            format!(
                "{most} listen to events of this server with {key}, and no more may (api.max_listeners_per_key); close one \
                 first"
            ),
        ),
    };
    Problem::new(code, detail).with_retry_after(LISTENERS_RETRY_AFTER_SECS)
}

pub(crate) fn too_many_waits(full: &Full) -> Problem {
    let with = match full {
        Full::All => String::new(),
        Full::OfClient(key, most) => format!(" with {key}, {most}"),
    };
    let detail = format!(
        "as many requests{with} wait at this server as may (api.max_waits_per_key), and nothing was done; try again when one \
         is over, or without wait"
    );
    Problem::new(Code::TooManyWaits, detail).with_retry_after(RETRY_AFTER_SECS)
}

pub(crate) fn too_much_memory(full: &Full) -> Problem {
    let what = match full {
        Full::All => "the server holds as many bytes of bodies and answers as it may (api.max_body_memory)".into(),
        Full::OfClient(client, most) => format!(
            "the server holds nearly {most} bytes of bodies from {client} and of answers to it, and more than that it may not (a quarter of \
             api.max_body_memory)"
        ),
    };
    if OUTAGE.goes_on() {
        warn!("bodies are refused: {what}");
    }
    let detail =
        format!("{what}, so this body was not taken; send it again later, or send fewer and smaller bodies at a time");
    Problem::new(Code::Overloaded, detail).with_retry_after(RETRY_AFTER_SECS)
}

pub(crate) fn no_memory_for_answer(full: &Full) -> Problem {
    let what = match full {
        Full::All => "the server holds as many bytes of answers as it may".into(),
        Full::OfClient(client, most) => {
            format!("the server holds nearly {most} bytes for {client}, which is the most for one client")
        }
    };
    if OUTAGE.goes_on() {
        warn!("answers are refused (api.max_body_memory): {what}");
    }
    let detail = format!(
        "{what} (a part of api.max_body_memory), and nothing was done; read the answers that are on their way, and ask again \
         later, for less at a time"
    );
    Problem::new(Code::Overloaded, detail).with_retry_after(RETRY_AFTER_SECS)
}

pub(crate) fn invalid_query(detail: impl Display) -> Problem {
    Problem::new(Code::InvalidQuery, detail.to_string())
}

pub(crate) fn invalid_cursor() -> Problem {
    let detail = "cursor must be the next_cursor of the page before, unchanged; without it the list begins anew";
    Problem::new(Code::CursorNotFound, detail)
}

pub(crate) fn cursor_of_another_list(of: impl Display) -> Problem {
    let detail = format!("this cursor goes on with a list {of}; ask for that, or leave the cursor away");
    Problem::new(Code::CursorNotFound, detail)
}

pub(crate) fn purge_of_which_state() -> Problem {
    invalid_query("state is required: held, delayed, waiting, completed or failed")
}

pub(crate) fn active_is_not_purged() -> Problem {
    invalid_query(
        "active messages are not purged, consumers work on them: cancel them one by one, or purge another state, held, \
         delayed, waiting, completed or failed",
    )
}

pub(crate) fn confirm_is_required() -> Problem {
    invalid_query("confirm is required: the queue's name once more, because this deletes everything in the queue")
}

pub(crate) fn not_confirmed(queue: &QueueName) -> Problem {
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
        "there is no queue {queue}; it begins with its first message, POST /v1/queues/{queue}/messages, or \
                 its first settings, PATCH /v1/queues/{queue}"
    );
    Problem::new(Code::QueueNotFound, detail)
}

pub(crate) fn not_json_content() -> Problem {
    let detail = "the body must be JSON, sent with the header content-type: application/json";
    Problem::new(Code::UnsupportedMediaType, detail)
}

pub(crate) fn not_batch_content() -> Problem {
    let detail = "the body must be JSON, sent with the header content-type: application/json, or a message a line, with \
                  content-type: application/x-ndjson";
    Problem::new(Code::UnsupportedMediaType, detail)
}

pub(crate) fn encoded_body() -> Problem {
    let detail = "the header content-encoding says that the body is compressed or encoded, which this server does not undo; send \
                  uncompressed JSON, without that header";
    Problem::new(Code::UnsupportedMediaType, detail)
}

pub(crate) fn unexpected_body() -> Problem {
    Problem::new(Code::UnexpectedBody, "this endpoint takes no body; send none")
}

pub(crate) fn foreign_page() -> Problem {
    let detail = "this was asked for by a page of another origin, and nothing was done; list the origin in api.cors_origins if \
                  its pages may call this server";
    Problem::new(Code::ForeignOrigin, detail)
}

pub(crate) fn line_too_large(limit: usize) -> Problem {
    let detail = format!("the line is longer than {limit} bytes; send less, or raise api.body_limit");
    Problem::new(Code::BodyTooLarge, detail)
}

pub(crate) fn body_too_large(limit: usize) -> Problem {
    let detail = format!("the body is larger than {limit} bytes; send less at once, or raise api.body_limit");
    Problem::new(Code::BodyTooLarge, detail)
}

pub(crate) fn body_not_received() -> Problem {
    Problem::new(Code::IncompleteBody, "the body ended before it was complete; send it again")
}

pub(crate) fn body_too_slow(limit: Millis) -> Problem {
    let detail = format!("the body was not complete after {limit}; send it again, faster");
    Problem::new(Code::RequestTimeout, detail)
}

pub(crate) fn stopping() -> Problem {
    let detail = "this server stops; send the rest again, another one takes it";
    Problem::new(Code::Stopping, detail).with_retry_after(RETRY_AFTER_SECS)
}

pub(crate) fn lines_too_slow(limit: Millis) -> Problem {
    let detail = format!("no message came for {limit}; send the rest again, and end the body when there is no more");
    Problem::new(Code::RequestTimeout, detail)
}

pub(crate) fn not_json(detail: impl Display) -> Problem {
    let detail = format!("the body is not the JSON that is expected: {detail}");
    Problem::new(Code::InvalidJson, detail)
}

pub(crate) fn line_not_json(detail: impl Display) -> Problem {
    let detail = format!("the line is not the JSON of a message: {detail}");
    Problem::new(Code::InvalidJson, detail)
}

fn invalid_settings(setting: &str, problem: &str, is_conflict: bool) -> Problem {
    let path = setting.trim_matches('.');
    let escaped = cut(path).replace('~', "~0").replace('/', "~1").replace('.', "/");
    let pointer = if path.is_empty() { String::new() } else { format!("/{escaped}") };
    let detail = match (wording::unknown_field(problem), problem.split('`').nth(1)) {
        (Some((word, known)), _) => cut(&unknown(&cut(word), known.iter().copied())),
        (None, Some(word)) if problem.starts_with("missing field") => {
            format!("{word} is required here: nothing stands that it could be taken from")
        }
        _ => wording::of_data(problem),
    };
    let code = if is_conflict { Code::SettingsConflict } else { Code::InvalidSettings };
    invalid_field(code, FieldError { pointer, detail })
}

/// For a field that can't be taken.
pub(crate) fn invalid_field(code: Code, error: FieldError) -> Problem {
    let detail = format!("{}: {}", error.pointer, error.detail);
    Problem::new(code, detail).with_errors(vec![error])
}

pub(crate) fn too_many_settlements(count: usize) -> Problem {
    let detail = format!("1 to {} leases are settled at once, these are {count}; split them", Queue::MAX_MESSAGES);
    Problem::new(Code::TooManySettlements, detail)
}

pub(crate) fn lease_gone() -> Problem {
    let detail = "this lease is over, and nothing was changed: it lapsed, was settled before in another way, or its \
                  queue or message is gone; lease anew, and extend leases before they expire";
    Problem::new(Code::LeaseGone, detail)
}

pub(crate) fn too_many_messages(count: usize) -> Problem {
    let detail = format!("a batch has 1 to {} messages, this one has {count}; split it", Queue::MAX_MESSAGES);
    Problem::new(Code::TooManyMessages, detail)
}

#[cfg(test)]
mod tests {
    use queue_core::Settings;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_wrong_word_is_told_whole_whatever_stands_in_it() {
        for (patch, told) in [
            (json!({"a`b": 1}), "/a`b: unknown; there are visibility_timeout, "),
            (json!({"max_`attempts": 1}), "/max_`attempts: unknown: did you mean \"max_attempts\"?"),
            (json!({"backoff": {"type": "a`b"}}), "/backoff/type: \"a`b\" is unknown; there are fixed, exponential"),
        ] {
            let problem = from_queue(Settings::default().patched(&patch).unwrap_err().into());
            assert!(problem.detail.starts_with(told), "{}", problem.detail);
        }
    }
}
