//! The argument types of handlers, whose values are taken from the job or from the state of the routes.

use queue_core::Failure;
use serde::de::DeserializeOwned;
use service::wording;

use super::outcome::Outcome;
use crate::job::Job;

/// An argument of a handler. The value of the argument comes from the job and the state of the
/// [`Routes`](crate::Routes).
pub trait FromJob<S>: Sized + Send {
    /// Makes the argument.
    ///
    /// # Errors
    ///
    /// If the argument of the handler can't be made, returns the outcome of the message as the error. The handler is
    /// not called if one of its arguments can't be made.
    fn from_job(job: &Job, state: &S) -> Result<Self, Outcome>;
}

impl<S> FromJob<S> for Job {
    fn from_job(job: &Job, _: &S) -> Result<Self, Outcome> {
        Ok(job.clone())
    }
}

/// The data of the message, deserialized to your type `T`. A message whose data can't be deserialized fails for good with
/// the code `invalid_payload` and the path and reason of the error, because another attempt would fail too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<T>(pub T);

impl<S, T: DeserializeOwned + Send> FromJob<S> for Payload<T> {
    fn from_job(job: &Job, _: &S) -> Result<Self, Outcome> {
        let json = job.message().data.get();
        serde_json::from_str(json).map(Self).map_err(|_| {
            // After an error the message's data is parsed again, to find the path of the error. The first parse of the data
            // does not track paths, because tracking paths would cost more.
            let parse_result = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_str(json));
            let why = parse_result.err().map_or_else(String::new, |error| match error.path().to_string().as_str() {
                "." => wording::json_mistake(error.inner()),
                path => format!("{path}: {}", wording::json_mistake(error.inner())),
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

/// A part of the state of the routes, which a handler can take as the argument [`State`]. A handler can also take the
/// whole state, because every type that implements `Clone` implements `FromRef` of itself.
pub trait FromRef<S> {
    /// Makes a value of this type from the whole state.
    fn from_ref(state: &S) -> Self;
}

impl<S: Clone> FromRef<S> for S {
    fn from_ref(state: &S) -> Self {
        state.clone()
    }
}
