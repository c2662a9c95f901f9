//! Deletes a queue.

use deadpool_redis::redis::Value;

use crate::{
    error::Result,
    queue::{Call, Queue},
    redis::scripts,
};

impl Queue {
    /// Deletes the queue with all its messages, including active ones. All leases of the queue's messages end, and clients stop
    /// waiting for the queue's messages. Returns whether the queue existed.
    ///
    /// Only the queue that exists when the call begins is deleted; a queue of the same name that is created meanwhile stays.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): whether Redis has deleted the queue is unknown.
    /// [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn delete(&self) -> Result<bool> {
        let epoch = self.stored_epoch().await?;
        if let Some(epoch) = &epoch {
            // If another process has deleted the queue meanwhile, the effect is the same.
            self.call::<Value>(&scripts::DELETE, Call::new(&scripts::DELETE, &self.keys).arg(epoch)).await?;
            self.epoch.lock().take_if(|known| known == epoch);
        }
        self.forget_name().await?;
        Ok(epoch.is_some())
    }
}
