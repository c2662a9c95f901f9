use serde_json::value::RawValue;

use super::{Call, Queue, random};
use crate::{
    Due, Error, Failure, LeaseToken, MAX_BYTES_PER_CALL, MAX_MESSAGES_PER_CALL, MAX_RESULT_BYTES, Millis, Result,
    State, reply, scripts::SETTLE,
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
        match self {
            Self::Complete(result) if result.get().len() > MAX_RESULT_BYTES => {
                let message =
                    format!("the result has {} bytes, at most {MAX_RESULT_BYTES} are kept", result.get().len());
                ("x", String::new(), encode_failure(&Failure::new("result_too_large", message)))
            }
            Self::Complete(result) => ("c", String::new(), result.get().to_owned()),
            Self::Fail(failure) => ("f", random(), encode_failure(failure)),
            Self::FailAndRetryAfter(failure, pause) => ("f", format!("+{}", bounded(*pause)), encode_failure(failure)),
            Self::FailForGood(failure) => ("x", String::new(), encode_failure(failure)),
            Self::Release(pause) => {
                ("r", pause.map(|pause| bounded(pause).to_string()).unwrap_or_default(), String::new())
            }
        }
    }
}

/// A pause in ms, at most as long as a delay may be.
fn bounded(pause: Millis) -> u64 {
    pause.min(Due::LONGEST_DELAY).get()
}

/// An error's JSON, its text cut where it is too long to be kept.
fn encode_failure(failure: &Failure) -> String {
    let cut = |text: &str, max: usize| {
        let end = text.char_indices().map(|(at, char)| at + char.len_utf8()).take_while(|end| *end <= max).last();
        text[..end.unwrap_or(0)].to_owned()
    };
    // A character takes up to six bytes in JSON.
    let failure = Failure::new(cut(&failure.code, 128), cut(&failure.message, MAX_RESULT_BYTES / 8));
    serde_json::to_string(&failure).expect("two strings have a JSON form")
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
        let mut settled = Vec::with_capacity(settlements.len());
        let mut rest = settlements;
        while !rest.is_empty() {
            let mut call = Call::new(&SETTLE, &self.keys).arg(random());
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
                    "gone" => Settled::Gone,
                    state => Settled::Now(state.parse().map_err(Error::unexpected)?),
                });
            }
        }
        Ok(settled)
    }
}
