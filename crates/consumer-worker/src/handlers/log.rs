//! The handler `log`.

use queue_core::Queue;
use serde_json::Value;
use tracing::info;

use crate::{Handler, Job, Outcome};

/// Logs the id and the data of a message: the demo. It is the one place that logs a message's data, because that is
/// what it was asked for.
pub(crate) struct Log {
    outcome: Outcome,
}

impl Log {
    pub(crate) fn new(result: &Value) -> Result<Self, String> {
        let outcome = Outcome::complete(result);
        match &outcome {
            Outcome::Complete(json) if json.get().len() > Queue::MAX_RESULT_BYTES => Err(format!(
                "result: {} bytes, at most {} are kept",
                json.get().len(),
                queue_core::Queue::MAX_RESULT_BYTES
            )),
            _ => Ok(Self { outcome }),
        }
    }
}

impl Handler for Log {
    async fn handle(&self, job: Job) -> Outcome {
        // The queue and the id stand in the span of the job.
        info!(data = job.message().data.get(), "message");
        self.outcome.clone()
    }
}
