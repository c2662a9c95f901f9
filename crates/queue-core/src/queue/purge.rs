//! Forgets all messages of a state, in steps, so that other calls run in between.

use crate::{
    error::Result,
    message::State,
    queue::{Call, Queue},
    redis::scripts,
};

impl Queue {
    /// Forgets the messages that are in one state when the purge begins, and returns their number. Messages that are posted later
    /// stay, and active messages are not purged; but a purge of delayed messages may forget a message that was active when the
    /// purge began and becomes delayed before the purge ends. The purge ends if the queue is deleted, and does not affect a later
    /// queue of the same name.
    ///
    /// After an error, or when the future is dropped, maintenance continues a purge of waiting messages that has begun. An interrupted
    /// purge of held, delayed, completed or failed messages stays incomplete. If a purge of a state is repeated, the second purge also
    /// forgets messages that have entered this state since the first purge.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): none, some or all of the messages may be forgotten.
    /// [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn purge(&self, state: State) -> Result<u64> {
        if state == State::Active {
            return Ok(0);
        }
        let Some(epoch) = self.stored_epoch().await? else { return Ok(0) };
        let (mut purged, mut cut, mut cursor) = (0, String::new(), String::new());
        loop {
            let call = Call::new(&scripts::PURGE, &self.keys).arg(&epoch).arg(state.as_str()).arg(&cut).arg(&cursor);
            let step_reply: Option<(u64, String, String)> = self.call_unless_deleted(&scripts::PURGE, call).await?;
            let Some((count, next_cut, next_cursor)) = step_reply else { return Ok(purged) };
            purged += count;
            (cut, cursor) = (next_cut, next_cursor);
            if cursor.is_empty() {
                return Ok(purged);
            }
        }
    }
}
