//! The handler `log`: logs each message, and completes it with a result from the configuration.

use queue_core::Queue;
use serde_json::Value;
use tracing::info;

use crate::{
    job::Job,
    routing::{Handler, Outcome},
};

/// Logs the id and the data of a message, for a demonstration. Nothing else logs the data of a message.
pub(crate) struct Log {
    outcome: Outcome,
}

impl Log {
    pub(crate) fn new(result: &Value) -> Result<Self, String> {
        let outcome = Outcome::complete(result);
        match &outcome {
            Outcome::Complete(json) if json.get().len() > Queue::MAX_RESULT_BYTES => {
                let (bytes, most) = (json.get().len(), Queue::MAX_RESULT_BYTES);
                Err(format!("result: {bytes} bytes, at most {most} are kept"))
            }
            _ => Ok(Self { outcome }),
        }
    }
}

impl Handler for Log {
    async fn handle(&self, job: Job) -> Outcome {
        // The span of the job has the queue and the id.
        info!(data = job.message().data.get(), "message");
        self.outcome.clone()
    }
}
