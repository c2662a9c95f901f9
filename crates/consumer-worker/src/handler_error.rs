//! The error of a handler, with what is to become of its message.

use std::{error::Error, fmt, time::Duration};

use queue_core::{Failure, Timestamp};

use crate::{IntoOutcome, Outcome};

/// Why a handler did not complete its message, and what is to become of that.
///
/// Every standard error becomes one by `?`, and means: try again after the back-off. Say otherwise with
/// [`for_good`](Self::for_good), [`retry_after`](Self::retry_after), [`retry_at`](Self::retry_at) or
/// [`release`](Self::release):
///
/// ```
/// # use consumer_worker::HandlerError;
/// fn port(text: &str) -> Result<u16, HandlerError> {
///     let port = text.parse::<u16>().map_err(|error| HandlerError::from(error).for_good())?;
///     if port == 0 {
///         return Err(HandlerError::new("no_port", "port 0 is none").for_good());
///     }
///     Ok(port)
/// }
/// # assert!(port("0").is_err());
/// ```
#[derive(Debug)]
pub struct HandlerError {
    failure: Failure,
    then: Then,
}

#[derive(Debug)]
enum Then {
    Retry,
    RetryAfter(Duration),
    RetryAt(Timestamp),
    FailForGood,
    Release(Option<Duration>),
}

impl HandlerError {
    /// Try again after the back-off. The code is a word that a program can match, the message a sentence for people; both
    /// stand in the message's `error`.
    pub fn new(code: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { failure: Failure::new(code, message.to_string()), then: Then::Retry }
    }

    /// Of an error that is no standard one but can be boxed as such, e.g. of `anyhow`. The code is `error`.
    pub fn boxed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::of(&*error.into())
    }

    /// The work could not be begun: no attempt is spent, and the message goes back to the head of the line, or comes back
    /// after the pause.
    pub fn release(pause: Option<Duration>) -> Self {
        Self { failure: Failure::new("released", "released by its handler"), then: Then::Release(pause) }
    }

    /// Another attempt would not help: to the dead letters.
    #[must_use]
    pub fn for_good(self) -> Self {
        Self { then: Then::FailForGood, ..self }
    }

    /// Try again after this pause.
    #[must_use]
    pub fn retry_after(self, pause: Duration) -> Self {
        Self { then: Then::RetryAfter(pause), ..self }
    }

    /// Try again at this instant, by Redis's clock.
    #[must_use]
    pub fn retry_at(self, instant: Timestamp) -> Self {
        Self { then: Then::RetryAt(instant), ..self }
    }

    /// With what caused it, as far as it tells, for the text is all that is kept.
    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            // Some repeat their cause.
            let told = error.to_string();
            if !text.contains(&told) {
                text = format!("{text}: {told}");
            }
            cause = error.source();
        }
        Self::new("error", text)
    }
}

impl<E: Error + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

impl IntoOutcome for HandlerError {
    fn into_outcome(self) -> Outcome {
        match self.then {
            Then::Retry => Outcome::Retry(self.failure),
            Then::RetryAfter(pause) => Outcome::RetryAfter(self.failure, pause),
            Then::RetryAt(instant) => Outcome::RetryAt(self.failure, instant),
            Then::FailForGood => Outcome::FailForGood(self.failure),
            Then::Release(pause) => Outcome::Release(pause),
        }
    }
}
