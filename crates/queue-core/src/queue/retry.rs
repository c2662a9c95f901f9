//! Retries failed messages when a client requests it: one message, or all in steps, so that other calls run in between.

use crate::{
    error::Result,
    message::{MessageRef, State},
    queue::{
        Call, Queue,
        change_message::{Changed, change_outcome, parse_state},
    },
    redis::scripts,
};

impl Queue {
    /// Makes a failed message ready at once, with its attempts and lapses reset and without a ttl.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): the message may be ready; a repetition retries the message again if it
    /// has failed again since. [`Error::ExclusiveQueue`](crate::Error::ExclusiveQueue): the message has a group.
    /// [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn retry(&self, id: &MessageRef) -> Result<Changed> {
        let call = Call::new(&scripts::RETRY, &self.keys).arg("one").arg(id.as_str());
        Ok(change_outcome(State::Failed, parse_state(self.call(&scripts::RETRY, call).await?)?))
    }

    /// Makes all messages ready that have failed until now, oldest first, with their attempts and lapses reset and without a ttl.
    /// Returns the number of retried messages. The retry ends if the queue is deleted, and does not affect a later queue of the
    /// same name.
    ///
    /// After an error, or when the future is dropped, the retry stays incomplete, and nothing continues it. A retry that is
    /// repeated also retries messages that have failed since the first retry, for the first time or again.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): none, some or all of the messages may be ready.
    /// [`Error::ExclusiveQueue`](crate::Error::ExclusiveQueue): a message to retry has a group; messages that failed earlier may be
    /// ready already. [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn retry_failed(&self) -> Result<u64> {
        let Some(epoch) = self.stored_epoch().await? else { return Ok(0) };
        let mut retried_count = 0;
        let mut last_instant = String::new();
        loop {
            let call = Call::new(&scripts::RETRY, &self.keys).arg("some").arg(&epoch).arg(&last_instant);
            let step_reply: Option<(u64, String, bool)> = self.call_unless_deleted(&scripts::RETRY, call).await?;
            let Some((count, instant, are_more)) = step_reply else { return Ok(retried_count) };
            retried_count += count;
            last_instant = instant;
            if !are_more {
                return Ok(retried_count);
            }
        }
    }
}
