//! Stores the progress that a consumer reports for an active message.

use serde::Deserializer;
use serde_json::value::RawValue;

use crate::{
    error::{Error, Result},
    json, limits,
    message::LeaseToken,
    queue::{Call, Queue},
    redis::scripts,
};

impl Queue {
    /// Deserializes an optional progress, for serde's `deserialize_with`: any JSON up to [`Queue::MAX_RESULT_BYTES`].
    ///
    /// # Errors
    ///
    /// The JSON has more than [`Queue::MAX_RESULT_BYTES`] bytes.
    pub fn deserialize_progress<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
        json::bounded_json::<{ limits::MAX_RESULT_BYTES }, D>(deserializer)
    }

    /// Stores the progress that a handler reports: any JSON up to [`Queue::MAX_RESULT_BYTES`]. Returns `false`, and stores
    /// nothing, when the lease is over.
    ///
    /// # Errors
    ///
    /// [`Error::ProgressTooLarge`], [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::OtherLayout`].
    pub async fn report_progress(&self, lease: &LeaseToken, progress: &RawValue) -> Result<bool> {
        let json = progress.get();
        if json.len() > limits::MAX_RESULT_BYTES {
            return Err(Error::ProgressTooLarge(json.len()));
        }
        let call = Call::new(&scripts::PROGRESS, &self.keys).arg(lease.id().as_str()).arg(lease.secret()).arg(json);
        self.call(&scripts::PROGRESS, call).await
    }
}
