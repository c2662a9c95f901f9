use futures_util::{FutureExt, future::BoxFuture};
use queue_core::Delivery;
use serde_json::Value;
use tracing::info;

use crate::{Handler, Outcome};

/// Logs the id and the data of a message: the demo. It is the one place that logs a message's data, because that is
/// what it was asked for.
pub(crate) struct Log {
    outcome: Outcome,
}

impl Log {
    pub(crate) fn new(result: &Value) -> Self {
        Self { outcome: Outcome::completed(result) }
    }
}

impl Handler for Log {
    fn handle(&self, delivery: Delivery) -> BoxFuture<'static, Outcome> {
        // The queue and the id stand in the span of the job.
        info!(data = delivery.message.data.get(), "message");
        std::future::ready(self.outcome.clone()).boxed()
    }
}
