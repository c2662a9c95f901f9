//! The outcome of a run: the types that a handler may return, the errors of handlers, and the action that settles the lease.

use std::{error::Error, fmt::Display, time::Duration};

use queue_core::{Action, Failure, Millis, SignalKey, Timestamp};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use service::wording;

/// The outcome of a run, which decides the next state of the message.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The work is done. The result is any JSON of up to [`Queue::MAX_RESULT_BYTES`](queue_core::Queue::MAX_RESULT_BYTES)
    /// bytes; a longer result makes the message fail for good, with the code `result_too_large`.
    Complete(Box<RawValue>),
    /// The attempt failed. If attempts are left, another attempt follows after the back-off.
    Retry(Failure),
    /// The attempt failed. If attempts are left, another attempt follows after this pause instead of the back-off.
    RetryAfter(Failure, Duration),
    /// The attempt failed. If attempts are left, another attempt follows at this instant, by Redis's clock.
    RetryAt(Failure, Timestamp),
    /// The attempt failed, and no further attempt would help: the message becomes a dead letter.
    FailForGood(Failure),
    /// The message is released, and no attempt is counted: the message returns to the head of the waiting list at once, or is
    /// delayed by this pause.
    Release(Option<Duration>),
    /// The message is released, and no attempt is counted: the message is held until a signal of this hold key. If there is a
    /// sticky signal of the hold key, the message returns to the head of the waiting list at once.
    Hold(SignalKey),
}

impl Outcome {
    /// Completes the message with this result.
    pub fn complete(result: &impl Serialize) -> Self {
        match to_raw_value(result) {
            Ok(json) => Self::Complete(json),
            Err(error) => {
                let why = wording::value_mistake(&error);
                Self::FailForGood(Failure::new("invalid_result", format!("the result has no JSON form: {why}")))
            }
        }
    }

    /// Returns the action that settles the lease; `now` is the time by Redis's clock.
    pub(crate) fn into_action(self, now: Timestamp) -> Action {
        let to_millis = |pause: Duration| Millis::new(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        match self {
            Self::Complete(result) => Action::Complete(result),
            Self::Retry(failure) => Action::Fail(failure),
            Self::RetryAfter(failure, pause) => Action::FailAndRetryAfter(failure, to_millis(pause)),
            Self::RetryAt(failure, instant) => Action::FailAndRetryAfter(failure, instant.since(now)),
            Self::FailForGood(failure) => Action::FailForGood(failure),
            Self::Release(pause) => Action::Release(pause.map(to_millis)),
            Self::Hold(key) => Action::Hold(key),
        }
    }
}

/// A value that a handler may return: an [`Outcome`], `()`, or a `Result` whose value can be serialized as JSON and
/// whose error converts into a [`HandlerError`], as every `std::error::Error` does.
pub trait IntoOutcome {
    /// Converts the value into an outcome.
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

/// The error of a handler, with the outcome for its message.
///
/// The operator `?` converts every `std::error::Error` into this type; the message is then retried after the back-off. For
/// other outcomes than a retry after the back-off there are [`for_good`](Self::for_good),
/// [`retry_after`](Self::retry_after), [`retry_at`](Self::retry_at), [`release`](Self::release) and [`hold`](Self::hold):
///
/// ```
/// # use consumer_worker::HandlerError;
/// fn parse_port(text: &str) -> Result<u16, HandlerError> {
///     let port = text.parse::<u16>().map_err(|error| HandlerError::from(error).for_good())?;
///     if port == 0 {
///         return Err(HandlerError::new("no_port", "port 0 is none").for_good());
///     }
///     Ok(port)
/// }
/// # assert!(parse_port("0").is_err());
/// ```
#[derive(Debug)]
pub struct HandlerError(Outcome);

impl HandlerError {
    /// Creates the error of a failed attempt: another attempt follows after the back-off. The code is a word for programs, and
    /// the message is a sentence for people. The code and the text are stored in the message's `error`.
    pub fn new(code: impl Into<String>, message: impl Display) -> Self {
        Self(Outcome::Retry(Failure::new(code, message.to_string())))
    }

    /// Converts an error that does not implement `std::error::Error` but can be boxed, such as `anyhow::Error`. The code is
    /// `error`.
    pub fn boxed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::from_std_error(&*error.into())
    }

    /// Creates the error of a handler that could not start the work. No attempt is counted, and the message returns to the head
    /// of the waiting list at once, or is delayed by the pause.
    pub fn release(pause: Option<Duration>) -> Self {
        Self(Outcome::Release(pause))
    }

    /// Creates the error of a handler that can't work on the message before a signal of this hold key. No attempt is counted,
    /// and the message is held until a signal of the hold key.
    pub fn hold(key: SignalKey) -> Self {
        Self(Outcome::Hold(key))
    }

    /// Makes the message a dead letter, because another attempt would not help.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self(Outcome::FailForGood(self.into_failure()))
    }

    /// Makes another attempt follow after this pause.
    #[must_use]
    pub fn retry_after(self, pause: Duration) -> Self {
        Self(Outcome::RetryAfter(self.into_failure(), pause))
    }

    /// Makes another attempt follow at this instant, by Redis's clock.
    #[must_use]
    pub fn retry_at(self, instant: Timestamp) -> Self {
        Self(Outcome::RetryAt(self.into_failure(), instant))
    }

    fn into_failure(self) -> Failure {
        match self.0 {
            Outcome::Retry(failure)
            | Outcome::RetryAfter(failure, _)
            | Outcome::RetryAt(failure, _)
            | Outcome::FailForGood(failure) => failure,
            Outcome::Complete(_) | Outcome::Release(_) | Outcome::Hold(_) => {
                Failure::new("released", "released by its handler")
            }
        }
    }

    /// Converts an error to a failed attempt. Only the text of a failure is stored, so the text includes the texts of the
    /// error's causes.
    fn from_std_error(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // The text of a cause is appended only if the error's text does not contain it already.
            let cause_text = error.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            cause = error.source();
        }
        Self::new("error", text)
    }
}

impl<E: Error + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::from_std_error(&error)
    }
}

impl IntoOutcome for HandlerError {
    fn into_outcome(self) -> Outcome {
        self.0
    }
}
