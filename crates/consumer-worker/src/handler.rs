use futures_util::future::BoxFuture;
use queue_core::Action;

use crate::Job;

/// What does the work of a message.
pub trait Handler: Send + Sync {
    /// Works on one message, and answers how its lease ends. A panic is a failure of that message, of nothing else.
    fn handle(&self, job: Job) -> BoxFuture<'static, Action>;
}
