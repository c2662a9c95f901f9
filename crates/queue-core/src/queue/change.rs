//! Changes of one message by hand: cancel, erase, promote, retry.

use deadpool_redis::redis::Value;

use super::{Call, Queue};
use crate::{
    Error, MessageRef, Result, State, reply,
    scripts::{CANCEL, ERASE, PROMOTE, RETRY, Script},
};

/// What came of changing one message by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It was done.
    Done,
    /// The message is active: its consumer is told to stop, and what comes of it shows when the lease ends.
    Requested,
    /// The message is in a state in which it can't be done. Nothing was changed.
    Refused(State),
    /// There is no such message.
    Unknown,
}

impl Queue {
    /// Cancels a message: one that has not started fails with the code `cancelled`; the consumer of an active one is told
    /// to stop, and whatever but a completion it settles then ends the message as cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn cancel(&self, id: &MessageRef) -> Result<Changed> {
        Ok(match self.change(&CANCEL, id).await? {
            Some(State::Active) => Changed::Requested,
            Some(state @ (State::Completed | State::Failed)) => Changed::Refused(state),
            Some(_) => Changed::Done,
            None => Changed::Unknown,
        })
    }

    /// Forgets a message and all that belongs to it; not while it is active.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn erase(&self, id: &MessageRef) -> Result<Changed> {
        Ok(match self.change(&ERASE, id).await? {
            Some(State::Active) => Changed::Refused(State::Active),
            Some(_) => Changed::Done,
            None => Changed::Unknown,
        })
    }

    /// Makes a delayed message ready at once.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn promote(&self, id: &MessageRef) -> Result<Changed> {
        Ok(only_from(State::Delayed, self.change(&PROMOTE, id).await?))
    }

    /// Makes a failed message ready at once, with its attempts anew and without a ttl.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn retry(&self, id: &MessageRef) -> Result<Changed> {
        let call = Call::new(&RETRY, &self.keys).arg("one").arg(id.as_str());
        Ok(only_from(State::Failed, found_in(self.call(&RETRY, call).await?)?))
    }

    /// The state in which the script found the message.
    async fn change(&self, script: &'static Script, id: &MessageRef) -> Result<Option<State>> {
        found_in(self.call(script, Call::new(script, &self.keys).arg(id.as_str())).await?)
    }
}

fn only_from(right: State, found: Option<State>) -> Changed {
    match found {
        Some(state) if state == right => Changed::Done,
        Some(state) => Changed::Refused(state),
        None => Changed::Unknown,
    }
}

fn found_in(answer: Value) -> Result<Option<State>> {
    reply::optional_text(Some(answer))?.map(|state| state.parse().map_err(Error::unexpected)).transpose()
}
