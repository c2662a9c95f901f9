//! Maintenance of one queue: the work that becomes due with time.

use std::time::Duration;

use deadpool_redis::redis::Value;

use crate::{
    error::{Error, Result},
    names::ConsumerId,
    queue::{Call, Queue, random_fraction},
    redis::scripts,
};

/// The reply of `maintain.lua` if the queue does not exist.
const NO_SUCH_QUEUE: i64 = -2;

impl Queue {
    /// Does a bounded part of the maintenance: recovers lapsed leases, fails expired messages, promotes due messages, forgets
    /// messages that are no longer kept, and continues interrupted signals and purges. Returns the time until the next
    /// maintenance; `None` if the queue needs no maintenance until it changes.
    ///
    /// Each lease call also does most of the maintenance of its queue, so mainly queues that no consumer leases from need calls of
    /// `maintain`.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::NoSuchQueue`], [`Error::OtherLayout`].
    pub async fn maintain(&self) -> Result<Option<Duration>> {
        let call = Call::new(&scripts::MAINTAIN, &self.keys).arg(random_fraction());
        let pause: i64 = self.call(&scripts::MAINTAIN, call).await?;
        if pause == NO_SUCH_QUEUE {
            return Err(Error::NoSuchQueue);
        }
        Ok(u64::try_from(pause).ok().map(Duration::from_micros))
    }

    /// Ends a consumer's ownership of an exclusive queue, so that another consumer may take over as soon as no message is leased.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn end_ownership(&self, consumer: &ConsumerId) -> Result<()> {
        let call = Call::new(&scripts::END_OWNERSHIP, &self.keys).arg(consumer.as_str());
        self.call::<Value>(&scripts::END_OWNERSHIP, call).await.map(drop)
    }
}
