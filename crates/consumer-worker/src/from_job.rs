//! Arguments of handlers: what each takes from the job and from the state of the routes.

use queue_core::Failure;
use serde::de::DeserializeOwned;
use service::wording;

use crate::{Job, Outcome};

/// What can be an argument of a handler. Comes from the job and the state of the [`Routes`](crate::Routes).
pub trait FromJob<S>: Sized + Send {
    /// The argument.
    ///
    /// # Errors
    ///
    /// What comes of the message when there is none: the handler is not called.
    fn from_job(job: &Job, state: &S) -> Result<Self, Outcome>;
}

impl<S> FromJob<S> for Job {
    fn from_job(job: &Job, _: &S) -> Result<Self, Outcome> {
        Ok(job.clone())
    }
}

/// The data of the message, as a type of yours. What does not parse as one fails for good as `invalid_payload`, with
/// where and why: it would not parse the next time either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromJob<S> for Payload<T> {
    fn from_job(job: &Job, _: &S) -> Result<Self, Outcome> {
        let json = job.message().data.get();
        serde_json::from_str(json).map(Self).map_err(|_| {
            // Once more, to find where: that would cost more than to parse.
            let told = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(json));
            let why = told.err().map_or_else(String::new, |error| match error.path().to_string().as_str() {
                "." => wording::of_json(error.inner()),
                path => format!("{path}: {}", wording::of_json(error.inner())),
            });
            Outcome::FailForGood(Failure::new(
                "invalid_payload",
                format!("the data is not what the handler takes: {why}"),
            ))
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
