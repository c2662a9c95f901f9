use futures_util::future::BoxFuture;
use queue_core::{Action, Delivery, Failure, Millis};
use serde_json::value::{RawValue, to_raw_value};

/// What does the work of a message.
pub trait Handler: Send + Sync {
    /// Works on one message. A panic is a failure of that message, of nothing else.
    fn handle(&self, delivery: Delivery) -> BoxFuture<'static, Outcome>;
}

/// What a handler says when it is done.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Done, with this result.
    Completed(Box<RawValue>),
    /// The attempt failed; another comes after the back-off while any is left.
    Failed(Failure),
    /// The attempt failed; another comes after this pause while any is left.
    FailedRetryAfter(Failure, Millis),
    /// No further attempt will help.
    FailedForGood(Failure),
    /// Not now: no attempt is spent, and the message comes back after the pause.
    Released(Option<Millis>),
}

impl Outcome {
    /// Done, with a result that has a JSON form.
    pub fn completed(result: &serde_json::Value) -> Self {
        match to_raw_value(result) {
            Ok(json) => Self::Completed(json),
            Err(error) => Self::FailedForGood(Failure::new("invalid_result", error.to_string())),
        }
    }
}

impl From<Outcome> for Action {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed(result) => Self::Complete(result),
            Outcome::Failed(failure) => Self::Fail(failure),
            Outcome::FailedRetryAfter(failure, pause) => Self::FailAndRetryAfter(failure, pause),
            Outcome::FailedForGood(failure) => Self::FailForGood(failure),
            Outcome::Released(pause) => Self::Release(pause),
        }
    }
}
