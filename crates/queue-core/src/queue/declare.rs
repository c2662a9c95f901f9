use deadpool_redis::redis;
use tracing::debug;

use super::{Call, Life, Queue, lock};
use crate::{Error, Result, keys, keys::suffix, reply, scripts::DECLARE};

impl Queue {
    /// Makes the queue known to Redis, with its declared settings, and learns its epoch.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::NewerLayout`], [`Error::NoSuchQueue`].
    pub async fn declare(&self) -> Result<String> {
        // One that is deleted after this look is begun once more, empty, as whoever serves it by name does.
        if self.life == Life::BegunByOthers && !self.exists().await? {
            *lock(&self.epoch) = None;
            return Err(Error::NoSuchQueue);
        }
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

    async fn exists(&self) -> Result<bool> {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(self.keys.key(suffix::META));
        Ok(reply::integer(Some(self.redis.call(&exists).await?))? == 1)
    }

    /// Takes the queue's name out of the registry. A process that still serves it adds it again.
    pub(super) async fn unregister(&self) -> Result<()> {
        let mut unregister = redis::cmd("SREM");
        unregister.arg(keys::REGISTRY).arg(self.name.as_str());
        self.redis.call(&unregister).await?;
        Ok(())
    }
}
