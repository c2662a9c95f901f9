//! Changes of one message that need only its id: a client cancels, erases or promotes it. [`Changed`] is the outcome when a client
//! cancels, erases, promotes, retries or patches a message.

use crate::{
    error::{Error, Result},
    message::{MessageRef, State},
    queue::{Call, Queue},
    redis::scripts::{self, Script},
};

/// The outcome of a change of one message that a client requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The message was changed.
    Done,
    /// The message is active: its consumer is asked to stop. Whether an active message is cancelled is known when its lease ends.
    Requested,
    /// The message is in a state that does not permit the change: nothing was changed.
    Refused(State),
    /// The queue has no such message.
    Unknown,
}

impl Queue {
    /// Cancels a message. A message that has not started fails with the code `cancelled`. The consumer of an active message is
    /// asked to stop; any settlement except a completion then fails the message as cancelled.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
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
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
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
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn promote(&self, id: &MessageRef) -> Result<Changed> {
        Ok(change_outcome(State::Delayed, self.change(&scripts::PROMOTE, id).await?))
    }

    /// Calls a script that changes a message, and returns the state in which the script found the message.
    async fn change(&self, script: &'static Script, id: &MessageRef) -> Result<Option<State>> {
        parse_state(self.call(script, Call::new(script, &self.keys).arg(id.as_str())).await?)
    }
}

/// Returns the outcome of a change of a message that was in the state `found`; only the state `required` permits the change.
pub(super) fn change_outcome(required: State, found: Option<State>) -> Changed {
    match found {
        Some(state) if state == required => Changed::Done,
        Some(state) => Changed::Refused(state),
        None => Changed::Unknown,
    }
}

/// Parses the state in which a script found a message.
pub(super) fn parse_state(state: Option<String>) -> Result<Option<State>> {
    state.map(|state| state.parse().map_err(Error::unexpected)).transpose()
}
