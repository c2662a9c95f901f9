//! How a queue begins: `declare.lua` alone decides it. A call that must begin no queue learns that there is none.

use tracing::debug;

use crate::{
    error::{Error, Result},
    queue::{Call, Queue, index},
    redis::scripts,
};

/// The outcome of a call where there is no queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfAbsent {
    /// It begins the queue.
    Begin,
    /// It is refused as [`Error::NoSuchQueue`].
    Refuse,
}

impl Queue {
    /// Begins the queue if there is none, with its declared settings, and learns its epoch.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn declare(&self) -> Result<String> {
        self.declare_or(IfAbsent::Begin).await
    }

    pub(super) async fn declare_or(&self, if_absent: IfAbsent) -> Result<String> {
        let new_epoch = match if_absent {
            IfAbsent::Begin => {
                // The name first: a name without messages is harmless, messages without a name would not be found.
                index::add_if_absent(&self.redis, &self.name).await?;
                format!("{:016x}", rand::random::<u64>())
            }
            IfAbsent::Refuse => String::new(),
        };
        let mut call = Call::new(&scripts::DECLARE, &self.keys).arg(new_epoch);
        for (setting, value) in self.declared.meta_fields() {
            call.push(setting);
            call.push(value);
        }
        let answer: Option<(String, bool)> = self.call(&scripts::DECLARE, call).await?;
        let Some((epoch, has_begun)) = answer else {
            *self.epoch.lock() = None;
            return Err(Error::NoSuchQueue);
        };
        debug!(queue = %self.name, epoch, has_begun, "declared");
        if has_begun {
            // A deletion may have taken the name out meanwhile.
            index::add(&self.redis, std::slice::from_ref(&self.name)).await?;
        }
        *self.epoch.lock() = Some(epoch.clone());
        Ok(epoch)
    }
}
