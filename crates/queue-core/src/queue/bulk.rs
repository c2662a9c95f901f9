use super::{Call, Queue};
use crate::{
    MAX_MESSAGES_PER_CALL, Result, State, reply,
    scripts::{DELETE, PURGE, RETRY},
};

/// Large operations, in steps that let others in between.
impl Queue {
    /// Forgets the messages of one state that are there now, those first that are next in it; none that is active:
    /// of those there is nothing to purge. Answers how many.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): a part was done; repeat it.
    pub async fn purge(&self, state: State) -> Result<u64> {
        if state == State::Active {
            return Ok(0);
        }
        let Some(status) = self.status().await? else { return Ok(0) };
        // While others go on posting, this ends all the same.
        let mut left = status.counts.of(state);
        let mut purged = 0;
        let mut up_to = String::new();
        while left > 0 {
            let step = left.min(MAX_MESSAGES_PER_CALL as u64);
            let call = Call::new(&PURGE, &self.keys).arg(state.as_str()).arg(step).arg(&up_to);
            let mut answer = reply::array(Some(self.call(&PURGE, call).await?))?.into_iter();
            let forgotten = reply::unsigned(answer.next())?;
            up_to = reply::unsigned(answer.next())?.to_string();
            let passed = reply::unsigned(answer.next())?;
            if passed == 0 {
                break;
            }
            purged += forgotten;
            left = left.saturating_sub(forgotten);
        }
        Ok(purged)
    }

    /// Makes all messages ready that have failed until now, oldest first, with their attempts anew. Answers how many.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): a part was done; repeat it.
    pub async fn retry_failed(&self) -> Result<u64> {
        let mut retried = 0;
        let mut up_to = String::new();
        loop {
            let call = Call::new(&RETRY, &self.keys).arg("some").arg(MAX_MESSAGES_PER_CALL).arg(&up_to);
            let mut answer = reply::array(Some(self.call(&RETRY, call).await?))?.into_iter();
            let step = reply::unsigned(answer.next())?;
            up_to = reply::unsigned(answer.next())?.to_string();
            retried += step;
            if step < MAX_MESSAGES_PER_CALL as u64 {
                return Ok(retried);
            }
        }
    }

    /// Deletes the queue with everything in it, active messages too: their leases are gone. Answers whether there was
    /// one. A consumer that still serves it declares it anew, empty.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn delete(&self) -> Result<bool> {
        // The name first: whoever declares the queue anew in between adds it again, and a name without a queue is harmless.
        self.unregister().await?;
        Ok(reply::integer(Some(self.call(&DELETE, Call::new(&DELETE, &self.keys)).await?))? == 1)
    }
}
