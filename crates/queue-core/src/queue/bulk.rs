//! Operations on all messages of a state, in steps between which other calls run; deletion of a queue.

use deadpool_redis::redis::{self, FromRedisValue, Value};

use crate::{
    error::Result,
    message::State,
    queue::{Call, Queue, index},
    redis::{
        CallError, reply,
        scripts::{self, Script},
        suffix,
    },
};

/// Large operations, in steps between which other calls run.
impl Queue {
    /// Forgets the messages that are in one state when it begins, and returns how many. Messages that are posted later stay, and
    /// active messages are never purged. If this process dies during a purge of waiting messages, maintenance continues it.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): a part was done; repeat it.
    pub async fn purge(&self, state: State) -> Result<u64> {
        if state == State::Active {
            return Ok(0);
        }
        let Some(epoch) = self.stored_epoch().await? else { return Ok(0) };
        let (mut purged, mut cut, mut cursor) = (0, String::new(), String::new());
        loop {
            let call = Call::new(&scripts::PURGE, &self.keys).arg(&epoch).arg(state.as_str()).arg(&cut).arg(&cursor);
            let step: Option<(u64, String, String)> = self.call_unless_deleted(&scripts::PURGE, call).await?;
            let Some((count, next_cut, next_cursor)) = step else { return Ok(purged) };
            purged += count;
            (cut, cursor) = (next_cut, next_cursor);
            if cursor.is_empty() {
                return Ok(purged);
            }
        }
    }

    /// Makes all messages ready that have failed until now, oldest first, with their attempts reset. Returns how many.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): a part was done; repeat it.
    pub async fn retry_failed(&self) -> Result<u64> {
        let Some(epoch) = self.stored_epoch().await? else { return Ok(0) };
        let mut retried = 0;
        let mut up_to = String::new();
        loop {
            let call = Call::new(&scripts::RETRY, &self.keys).arg("some").arg(&epoch).arg(&up_to);
            let step: Option<(u64, String, bool)> = self.call_unless_deleted(&scripts::RETRY, call).await?;
            let Some((count, instant, are_more)) = step else { return Ok(retried) };
            retried += count;
            up_to = instant;
            if !are_more {
                return Ok(retried);
            }
        }
    }

    /// Deletes the queue with all its messages, active ones too: their leases and all waits for its messages end. Returns whether
    /// the queue existed.
    ///
    /// It deletes only the queue that exists when it is called; a queue of the same name that is created meanwhile stays.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): it may be deleted or not.
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

    /// Calls a script for the queue with a known epoch; `None` if that queue was deleted meanwhile.
    async fn call_unless_deleted<T: FromRedisValue>(&self, script: &'static Script, call: Call) -> Result<Option<T>> {
        match self.redis.call_script(script, &call.command).await {
            Err(CallError::StaleEpoch) => Ok(None),
            answer => reply::decode(answer.map_err(|error| self.explain(error))?).map(Some),
        }
    }

    /// Removes the name from the index, unless the queue exists.
    pub(crate) async fn forget_name(&self) -> Result<()> {
        index::remove(&self.redis, &self.name).await?;
        // The queue may have been created before its name was removed, so the check comes after the removal.
        if self.stored_epoch().await?.is_some() {
            index::add(&self.redis, std::slice::from_ref(&self.name)).await?;
        }
        Ok(())
    }

    pub(super) async fn stored_epoch(&self) -> Result<Option<String>> {
        let mut read = redis::cmd("HGET");
        read.arg(self.keys.key(suffix::META)).arg("epoch");
        reply::decode(self.redis.call(&read).await?)
    }
}
