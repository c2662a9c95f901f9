//! The handler `log`, which logs each message, and completes the message with a result from the configuration.

use queue_core::Queue;
use serde_json::Value;
use tracing::info;

use crate::{
    job::Job,
    routing::{Handler, Outcome},
};

/// Logs the id and the data of each message, for demonstrations. Only the handler `log` logs the data of messages; no
/// other part of Drover does.
pub(crate) struct Log {
    outcome: Outcome,
}

impl Log {
    pub(crate) fn new(result: &Value) -> Result<Self, String> {
        let outcome = Outcome::complete(result);
        match &outcome {
            Outcome::Complete(json) if json.get().len() > Queue::MAX_RESULT_BYTES => {
                let (bytes, max) = (json.get().len(), Queue::MAX_RESULT_BYTES);
                Err(format!("result: {bytes} bytes, at most {max} are kept"))
            }
            _ => Ok(Self { outcome }),
        }
    }
}

impl Handler for Log {
    async fn handle(&self, job: Job) -> Outcome {
        // The queue and the id are fields of the job's span.
        info!(data = job.message().data.get(), "message");
        self.outcome.clone()
    }
}
