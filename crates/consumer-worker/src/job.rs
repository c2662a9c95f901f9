use std::sync::Arc;

use queue_core::{Delivery, Error, Message, Millis, Queue, Reported, Timestamp};
use serde::Serialize;
use serde_json::value::to_raw_value;
use tokio_util::sync::CancellationToken;

/// One message at work, as its handler sees it.
#[derive(Clone)]
pub struct Job {
    pub(crate) queue: Arc<Queue>,
    pub(crate) delivery: Delivery,
    pub(crate) stop: CancellationToken,
}

impl Job {
    /// The message.
    pub fn message(&self) -> &Message {
        &self.delivery.message
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.delivery.message.attempts_made + 1
    }

    /// How long this run may take before it counts as a failed attempt.
    pub fn timeout(&self) -> Option<Millis> {
        self.delivery.timeout
    }

    /// Until when the lease lasted when the message was handed out; the worker extends it while the handler runs.
    pub fn lease_expires_at(&self) -> Timestamp {
        self.delivery.lease_expires_at
    }

    /// Cancelled when the handler should stop: the message was cancelled, or its lease is lost. The handler has half a
    /// second to end by itself, then it is dropped.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Tells readers of the message how far it is: any JSON up to 64 KiB.
    ///
    /// # Errors
    ///
    /// [`Error::TooMuch`], [`Error::Unavailable`], [`Error::OutOfMemory`]; the work may go on all the same.
    pub async fn report_progress(&self, progress: &impl Serialize) -> Result<Reported, Error> {
        let json = to_raw_value(progress).map_err(|error| Error::Unexpected(error.to_string()))?;
        self.queue.report_progress(&self.delivery.lease, &json).await
    }
}
