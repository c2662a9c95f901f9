use futures_util::{FutureExt, future::BoxFuture};
use queue_core::{Action, Failure};
use serde_json::{Value, value::to_raw_value};
use tracing::info;

use crate::{Handler, Job};

/// Logs the id and the data of a message: the demo. It is the one place that logs a message's data, because that is
/// what it was asked for.
pub(crate) struct Log {
    action: Action,
}

impl Log {
    pub(crate) fn new(result: &Value) -> Self {
        let no_json = |error: serde_json::Error| Action::FailForGood(Failure::new("invalid_result", error.to_string()));
        Self { action: to_raw_value(result).map_or_else(no_json, Action::Complete) }
    }
}

impl Handler for Log {
    fn handle(&self, job: Job) -> BoxFuture<'static, Action> {
        // The queue and the id stand in the span of the job.
        info!(data = job.message().data.get(), "message");
        std::future::ready(self.action.clone()).boxed()
    }
}
