//! Arguments of handlers: each takes its value from the job and from the state of the routes.

use queue_core::Failure;
use serde::de::DeserializeOwned;
use service::wording;

use super::Outcome;
use crate::job::Job;

/// A type that can be an argument of a handler. Its value comes from the job and the state of the [`Routes`](crate::Routes).
pub trait FromJob<S>: Sized + Send {
    /// The argument.
    ///
    /// # Errors
    ///
    /// The outcome of the message when there is no such value: the handler is not called.
    fn from_job(job: &Job, state: &S) -> Result<Self, Outcome>;
}

impl<S> FromJob<S> for Job {
    fn from_job(job: &Job, _: &S) -> Result<Self, Outcome> {
        Ok(job.clone())
    }
}

/// The data of the message, as a type of yours. Data that does not parse fails for good as `invalid_payload`, with
/// the place and the reason: another attempt would meet the same data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromJob<S> for Payload<T> {
    fn from_job(job: &Job, _: &S) -> Result<Self, Outcome> {
        let json = job.message().data.get();
        serde_json::from_str(json).map(Self).map_err(|_| {
            // Parsed a second time, for the place of the mistake: to note places costs more than to parse.
            let parsed = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(json));
            let why = parsed.err().map_or_else(String::new, |error| match error.path().to_string().as_str() {
                "." => wording::of_json(error.inner()),
                path => format!("{path}: {}", wording::of_json(error.inner())),
            });
            let message = format!("the data is not what the handler takes: {why}");
            Outcome::FailForGood(Failure::new("invalid_payload", message))
        })
    }
}

/// The state that the routes were [made with](crate::Routes::with_state), or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State<T>(pub T);

impl<S, T: FromRef<S> + Send> FromJob<S> for State<T> {
    fn from_job(_: &Job, state: &S) -> Result<Self, Outcome> {
        Ok(Self(T::from_ref(state)))
    }
}

/// A part of the state, for [`State`]. Every state that can be cloned is a part of itself.
pub trait FromRef<S> {
    /// The part.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}
