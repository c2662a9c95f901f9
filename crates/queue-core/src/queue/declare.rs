use deadpool_redis::redis;
use tracing::debug;

use super::{Call, Queue, lock};
use crate::{Result, keys, reply, scripts::DECLARE};

impl Queue {
    /// Makes the queue known to Redis, with its declared settings, and learns its epoch.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::NewerLayout`](crate::Error::NewerLayout).
    pub async fn declare(&self) -> Result<String> {
        // The registry first: a name without messages is harmless, messages without a name would be found by nobody.
        // Asked before it is written, because a Redis that is full refuses to write even what is there.
        let mut is_registered = redis::cmd("SISMEMBER");
        is_registered.arg(keys::REGISTRY).arg(self.name.as_str());
        if reply::integer(Some(self.redis.call(&is_registered).await?))? == 0 {
            let mut register = redis::cmd("SADD");
            register.arg(keys::REGISTRY).arg(self.name.as_str());
            self.redis.call(&register).await?;
        }

        let mut call = Call::new(&DECLARE, &self.keys).arg(format!("{:016x}", rand::random::<u64>()));
        for (setting, value) in self.declared.encode() {
            call.push(setting);
            call.push(value);
        }
        let epoch = reply::text(Some(self.call(&DECLARE, call).await?))?;
        debug!(queue = %self.name, epoch, "declared");
        *lock(&self.epoch) = Some(epoch.clone());
        Ok(epoch)
    }

    /// Takes the queue's name out of the registry. A process that still serves it adds it again.
    pub(super) async fn unregister(&self) -> Result<()> {
        let mut unregister = redis::cmd("SREM");
        unregister.arg(keys::REGISTRY).arg(self.name.as_str());
        self.redis.call(&unregister).await?;
        Ok(())
    }
}
