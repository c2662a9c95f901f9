use serde_json::value::RawValue;

use super::{Call, Queue};
use crate::{
    Error, Failure, LeaseToken, MAX_BYTES_PER_CALL, MAX_MESSAGES_PER_CALL, Millis, Result, Settings, State, reply,
    scripts::SETTLE,
};

/// How a consumer ends one lease.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The lease.
    pub lease: LeaseToken,
    /// What came of it.
    pub action: Action,
}

/// What came of a lease.
#[derive(Debug, Clone)]
pub enum Action {
    /// The work is done, with this result.
    Complete(Box<RawValue>),
    /// The attempt failed: the message comes back after its back-off while it has attempts left.
    Fail(Failure),
    /// As `Fail`, but the message comes back after this pause.
    FailAndRetryAfter(Failure, Millis),
    /// No further attempt will help.
    FailForGood(Failure),
    /// No attempt was made: the message goes back to the head of the line, or comes back after the pause.
    Release(Option<Millis>),
}

/// What a settlement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The message is in this state now, or was right after the same settlement was made before.
    Now(State),
    /// The lease was over: nothing was changed.
    Gone,
}

impl Action {
    /// The letter, the extra and the value as `settle.lua` takes them.
    fn encode(&self) -> (&'static str, String, String) {
        let json = |failure| serde_json::to_string(failure).expect("two strings have a JSON form");
        match self {
            Self::Complete(result) => ("c", String::new(), result.get().to_owned()),
            Self::Fail(failure) => ("f", rand::random::<f64>().to_string(), json(failure)),
            Self::FailAndRetryAfter(failure, pause) => ("f", format!("+{}", pause.get()), json(failure)),
            Self::FailForGood(failure) => ("x", String::new(), json(failure)),
            Self::Release(pause) => {
                ("r", pause.map(|pause| pause.get().to_string()).unwrap_or_default(), String::new())
            }
        }
    }
}

impl Queue {
    /// Ends leases, each on its own, in as many calls as their number and size need. An answer for each, in order.
    ///
    /// The same settlements may be sent again when an answer was lost: they are answered as the first time.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: some may have been settled or not.
    pub async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>> {
        let defaults = Settings::default();
        let mut settled = Vec::with_capacity(settlements.len());
        let mut rest = settlements;
        while !rest.is_empty() {
            let mut call = Call::new(&SETTLE, &self.keys)
                .arg(defaults.max_attempts.get())
                .arg(defaults.backoff.encode())
                .arg(defaults.retention.completed.encode())
                .arg(defaults.retention.failed.encode());
            let (mut count, mut bytes) = (0, 0);
            for Settlement { lease, action } in rest.iter().take(MAX_MESSAGES_PER_CALL) {
                let (letter, extra, value) = action.encode();
                bytes += value.len();
                if count > 0 && bytes > MAX_BYTES_PER_CALL {
                    break;
                }
                count += 1;
                for arg in [lease.id().as_str(), lease.secret(), letter, &extra, &value] {
                    call.push(arg);
                }
            }
            rest = &rest[count..];
            for answer in reply::array(Some(self.call(&SETTLE, call).await?))? {
                settled.push(match reply::text(Some(answer))?.as_str() {
                    "completed" => Settled::Now(State::Completed),
                    "failed" => Settled::Now(State::Failed),
                    "delayed" => Settled::Now(State::Delayed),
                    "waiting" => Settled::Now(State::Waiting),
                    "gone" => Settled::Gone,
                    other => return Err(Error::unexpected(other)),
                });
            }
        }
        Ok(settled)
    }
}
