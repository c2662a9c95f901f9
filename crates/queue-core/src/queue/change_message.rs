//! Changes of one message on request of a client, without content: cancel, erase, promote. This file also has the outcome of
//! all changes on request of a client; `retry.rs` and `patch.rs` make the others.

use crate::{
    error::{Error, Result},
    message::{MessageRef, State},
    queue::{Call, Queue},
    redis::scripts::{self, Script},
};

/// The outcome of changing one message on request of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The message was changed.
    Done,
    /// The message is active: its consumer is asked to stop, and the end of the lease shows the outcome.
    Requested,
    /// The message is in a state that does not permit the change. Nothing was changed.
    Refused(State),
    /// There is no such message.
    Unknown,
}

impl Queue {
    /// Cancels a message. A message that has not started fails with the code `cancelled`. The consumer of an active message is
    /// asked to stop; any settle except a completion then fails the message as cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn cancel(&self, id: &MessageRef) -> Result<Changed> {
        Ok(match self.change(&scripts::CANCEL, id).await? {
            Some(State::Active) => Changed::Requested,
            Some(state @ (State::Completed | State::Failed)) => Changed::Refused(state),
            Some(_) => Changed::Done,
            None => Changed::Unknown,
        })
    }

    /// Forgets a message and everything that belongs to it, unless it is active.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn erase(&self, id: &MessageRef) -> Result<Changed> {
        Ok(match self.change(&scripts::ERASE, id).await? {
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
        Ok(only_from(State::Delayed, self.change(&scripts::PROMOTE, id).await?))
    }

    /// The state in which the script found the message.
    async fn change(&self, script: &'static Script, id: &MessageRef) -> Result<Option<State>> {
        found_in(self.call(script, Call::new(script, &self.keys).arg(id.as_str())).await?)
    }
}

/// The outcome of a change that only the state `right` permits.
pub(super) fn only_from(right: State, found: Option<State>) -> Changed {
    match found {
        Some(state) if state == right => Changed::Done,
        Some(state) => Changed::Refused(state),
        None => Changed::Unknown,
    }
}

/// Parses the state in which a script found a message.
pub(super) fn found_in(state: Option<String>) -> Result<Option<State>> {
    state.map(|state| state.parse().map_err(Error::unexpected)).transpose()
}
