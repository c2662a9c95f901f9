use serde_json::Value;
use tracing::info;

use crate::{Handler, Job, Outcome};

/// Logs the id and the data of a message: the demo. It is the one place that logs a message's data, because that is
/// what it was asked for.
pub(crate) struct Log {
    outcome: Outcome,
}

impl Log {
    pub(crate) fn new(result: &Value) -> Self {
        Self { outcome: Outcome::complete(result) }
    }
}

impl Handler for Log {
    async fn handle(&self, job: Job) -> Outcome {
        // The queue and the id stand in the span of the job.
        info!(data = job.message().data.get(), "message");
        self.outcome.clone()
    }
}
