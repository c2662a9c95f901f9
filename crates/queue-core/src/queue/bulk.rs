//! Operations on all messages of a state, in steps that let others in between; deletion of a queue.

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

/// Large operations, in steps that let others in between.
impl Queue {
    /// Forgets the messages that are in one state when it begins; none that is posted after, and none that is active: of
    /// those there is nothing to purge. Answers how many. If this process dies on the way, maintenance goes on with what waited.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): a part was done; repeat it.
    pub async fn purge(&self, state: State) -> Result<u64> {
        if state == State::Active {
            return Ok(0);
        }
        let Some(epoch) = self.stored_epoch().await? else { return Ok(0) };
        let (mut purged, mut cut, mut place) = (0, String::new(), String::new());
        loop {
            let call = Call::new(&scripts::PURGE, &self.keys).arg(&epoch).arg(state.as_str()).arg(&cut).arg(&place);
            let step: Option<(u64, String, String)> = self.call_unless_deleted(&scripts::PURGE, call).await?;
            let Some((count, next_cut, next_place)) = step else { return Ok(purged) };
            purged += count;
            (cut, place) = (next_cut, next_place);
            if place.is_empty() {
                return Ok(purged);
            }
        }
    }

    /// Makes all messages ready that have failed until now, oldest first, with their attempts anew. Answers how many.
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

    /// Deletes the queue with everything in it, active messages too: their leases are gone, and whatever waits for its
    /// messages ends. Answers whether there was one.
    ///
    /// This deletes the queue that stands when it is called: one of the same name that begins meanwhile stays.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): it may be deleted or not.
    pub async fn delete(&self) -> Result<bool> {
        let epoch = self.stored_epoch().await?;
        if let Some(epoch) = &epoch {
            // If it is gone by now, another process has deleted it, which has the same effect.
            self.call::<Value>(&scripts::DELETE, Call::new(&scripts::DELETE, &self.keys).arg(epoch)).await?;
            self.epoch.lock().take_if(|known| known == epoch);
        }
        self.forget_name().await?;
        Ok(epoch.is_some())
    }

    /// Calls a script for the queue of an epoch; `None` if that was deleted meanwhile.
    async fn call_unless_deleted<T: FromRedisValue>(&self, script: &'static Script, call: Call) -> Result<Option<T>> {
        match self.redis.call_script(script, &call.command).await {
            Err(CallError::StaleEpoch) => Ok(None),
            answer => reply::decode(answer.map_err(|error| self.explain(error))?).map(Some),
        }
    }

    /// Takes the name out of the index, unless there is such a queue.
    pub(crate) async fn forget_name(&self) -> Result<()> {
        index::remove(&self.redis, &self.name).await?;
        // A queue may have begun before its name went, so it is looked for after that.
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
