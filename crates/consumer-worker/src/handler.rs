//! The trait of handlers that are values.

use crate::{Job, Outcome};

/// What does the work of a message: a value with an `async fn`, as the built-in handlers are.
///
/// Most handlers are plain `async fn`s instead, see [`IntoEndpoint`](crate::IntoEndpoint).
pub trait Handler: Send + Sync + 'static {
    /// Works on one message, and answers what came of it. A panic is a failure of that message, of nothing else. It is
    /// dropped at the time-out of the run, and half a second after the message was cancelled or its lease lost.
    fn handle(&self, job: Job) -> impl Future<Output = Outcome> + Send;
}
