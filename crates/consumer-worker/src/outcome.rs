//! What a handler says of a message, and how a lease is ended by it.

use std::time::Duration;

use queue_core::{Action, Failure, Millis, Timestamp};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use service::wording;

use crate::HandlerError;

/// What came of the work on a message, as its handler says.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The work is done. The result is any JSON up to [`Queue::MAX_RESULT_BYTES`](queue_core::Queue::MAX_RESULT_BYTES); a longer one
    /// makes it a failure for good, `result_too_large`.
    Complete(Box<RawValue>),
    /// The attempt failed; another follows after the back-off while there are attempts left.
    Retry(Failure),
    /// As `Retry`, but after this pause instead of the back-off.
    RetryAfter(Failure, Duration),
    /// As `Retry`, but at this instant, by Redis's clock, instead of after the back-off.
    RetryAt(Failure, Timestamp),
    /// No further attempt would help: it goes to the dead letters.
    FailForGood(Failure),
    /// No attempt was made: it goes back to the head of the line, or comes back after the pause.
    Release(Option<Duration>),
}

impl Outcome {
    /// With this result.
    pub fn complete(result: &impl Serialize) -> Self {
        match to_raw_value(result) {
            Ok(json) => Self::Complete(json),
            Err(error) => {
                let why = wording::of_value(&error);
                Self::FailForGood(Failure::new("invalid_result", format!("the result has no JSON form: {why}")))
            }
        }
    }

    /// As a lease is ended; `now` by Redis's clock.
    pub(crate) fn into_action(self, now: Timestamp) -> Action {
        let millis = |pause: Duration| Millis::new(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        match self {
            Self::Complete(result) => Action::Complete(result),
            Self::Retry(failure) => Action::Fail(failure),
            Self::RetryAfter(failure, pause) => Action::FailAndRetryAfter(failure, millis(pause)),
            Self::RetryAt(failure, instant) => Action::FailAndRetryAfter(failure, instant.since(now)),
            Self::FailForGood(failure) => Action::FailForGood(failure),
            Self::Release(pause) => Action::Release(pause.map(millis)),
        }
    }
}

/// What a handler may return: an [`Outcome`], nothing, or a `Result` of anything that has a JSON form and of anything that
/// becomes a [`HandlerError`], as every standard error does.
pub trait IntoOutcome {
    /// What it means.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Complete(RawValue::NULL.to_owned())
    }
}

impl<T: Serialize, E: Into<HandlerError>> IntoOutcome for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(result) => Outcome::complete(&result),
            Err(error) => error.into().into_outcome(),
        }
    }
}
