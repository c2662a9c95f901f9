//! Settles leases: completes, fails and releases messages.

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;

use crate::{
    error::{Error, Result},
    limits,
    message::{Failure, LeaseToken, NewMessage, State},
    names::SignalKey,
    queue::{Call, Queue, random_fraction},
    redis::scripts,
    time::Millis,
};

/// How a consumer ends one lease.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The token of the lease.
    pub lease: LeaseToken,
    /// The action that ends the lease.
    pub action: Action,
}

/// The action that ends a lease.
#[derive(Debug, Clone)]
pub enum Action {
    /// The work succeeded with this result, and the message is completed.
    Complete(Box<RawValue>),
    /// The attempt failed. The message is retried after its back-off while it has attempts left.
    Fail(Failure),
    /// Like `Fail`, but the message is retried after this delay.
    FailAndRetryAfter(Failure, Millis),
    /// The attempt failed, and the message is not retried.
    FailForGood(Failure),
    /// The message is released without spending an attempt. The message returns to the head of the waiting list, or becomes ready
    /// after the delay.
    Release(Option<Millis>),
    /// The message is released without spending an attempt, and held until the signal of this key. If the held message has a group, the
    /// message still counts towards the limit of active messages of this group. If the hold key has a sticky signal, which for a time
    /// also releases later messages, the message is released at once: it returns to the head of the waiting list.
    Hold(SignalKey),
}

impl Action {
    /// The arguments of `settle.lua`: the letter of the action, its parameter and its value.
    fn encode(&self) -> (&'static str, String, Cow<'_, str>) {
        match self {
            Self::Complete(result) if result.get().len() > limits::MAX_RESULT_BYTES => {
                let (bytes, max) = (result.get().len(), limits::MAX_RESULT_BYTES);
                let message = format!("the result has {bytes} bytes, at most {max} are kept");
                ("x", String::new(), encode_failure(&Failure::new("result_too_large", message)).into())
            }
            Self::Complete(result) => ("c", String::new(), result.get().into()),
            Self::Fail(failure) => ("f", random_fraction(), encode_failure(failure).into()),
            Self::FailAndRetryAfter(failure, pause) => {
                ("f", format!("+{}", bounded_millis(*pause)), encode_failure(failure).into())
            }
            Self::FailForGood(failure) => ("x", String::new(), encode_failure(failure).into()),
            Self::Release(pause) => {
                ("r", pause.map(|pause| bounded_millis(pause).to_string()).unwrap_or_default(), "".into())
            }
            Self::Hold(key) => ("r", format!("k{key}"), "".into()),
        }
    }
}

/// A pause in ms, at most as long as a delay may be.
fn bounded_millis(pause: Millis) -> u64 {
    pause.min(NewMessage::LONGEST_DELAY).get()
}

/// The JSON of an error, at most `MAX_ERROR_BYTES`: a code or a text that is too long is truncated.
fn encode_failure(failure: &Failure) -> String {
    const MAX_CODE_BYTES: usize = 128;
    /// The number of bytes of an error's JSON without the code and the text.
    const EMPTY_ERROR_BYTES: usize = r#"{"code":"","message":""}"#.len();
    /// The mark at the end of a truncated text.
    const CUT_MARK: &str = "… (cut)";
    const MAX_ERROR_MESSAGE_BYTES: usize = limits::MAX_ERROR_BYTES - MAX_CODE_BYTES - EMPTY_ERROR_BYTES;
    let code = longest_prefix(&failure.code, MAX_CODE_BYTES);
    let mut message = longest_prefix(&failure.message, MAX_ERROR_MESSAGE_BYTES).to_owned();
    if message.len() < failure.message.len() {
        message = format!("{}{CUT_MARK}", longest_prefix(&failure.message, MAX_ERROR_MESSAGE_BYTES - CUT_MARK.len()));
    }
    serde_json::to_string(&Failure::new(code, message)).expect("two strings have a JSON form")
}

/// Returns the longest start of a text that takes at most `max` bytes in a JSON string.
fn longest_prefix(text: &str, max: usize) -> &str {
    let mut bytes = 0;
    let first_excess_char = text.char_indices().find(|(_, char)| {
        bytes += match char {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..='\u{1f}' => 6,
            other => other.len_utf8(),
        };
        bytes > max
    });
    first_excess_char.map_or(text, |(index, _)| &text[..index])
}

impl Queue {
    /// Ends leases, each independently of the others, in as many calls as their number and size need. Returns, for each settlement
    /// in order, the new state of its message; `None` if the lease was over and nothing was changed.
    ///
    /// A caller may repeat settlements whose reply was lost; the repeated settlements get the same reply.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: some of the leases may have been settled. [`Error::OtherLayout`].
    pub async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Option<State>>> {
        let mut settle_outcomes = Vec::with_capacity(settlements.len());
        let mut unsettled = settlements;
        while !unsettled.is_empty() {
            let chunk = &unsettled[..unsettled.len().min(limits::MAX_MESSAGES)];
            let ids: HashSet<_> = chunk.iter().map(|settlement| settlement.lease.id()).collect();
            let any_repeated = if ids.len() < chunk.len() { "1" } else { "" };
            let mut call = Call::new(&scripts::SETTLE, &self.keys).arg(random_fraction()).arg(any_repeated);
            let (mut count, mut bytes) = (0, 0);
            let mut last_arguments = None;
            for Settlement { lease, action } in chunk {
                let (letter, parameter, value) = action.encode();
                bytes += value.len();
                if count > 0 && bytes > limits::MAX_BYTES {
                    break;
                }
                count += 1;
                let arguments = (lease.secret(), letter, parameter);
                if last_arguments.as_ref() != Some(&arguments) {
                    for arg in ["", arguments.0, arguments.1, &arguments.2] {
                        call.push(arg);
                    }
                    last_arguments = Some(arguments);
                }
                call.push(lease.id().as_str());
                call.push(&*value);
            }
            unsettled = &unsettled[count..];
            let answers: String = self.call(&scripts::SETTLE, call).await?;
            if answers.len() != count {
                return Err(Error::unexpected(format_args!("{} answers to {count} settlements", answers.len())));
            }
            for letter in answers.chars() {
                settle_outcomes.push(match letter {
                    'c' => Some(State::Completed),
                    'f' => Some(State::Failed),
                    'd' => Some(State::Delayed),
                    'w' => Some(State::Waiting),
                    'h' => Some(State::Held),
                    'g' => None,
                    other => return Err(Error::unexpected(other)),
                });
            }
        }
        Ok(settle_outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_error_is_truncated_by_the_length_of_its_json() {
        for (character, kept) in [("a", 8_031), ("\u{1}", 1_338), ("\"", 4_015), ("ä", 4_015), ("\n", 4_015)] {
            let failure = Failure::new(character.repeat(300), character.repeat(10_000));
            let json = encode_failure(&failure);
            assert!(
                json.len() <= limits::MAX_ERROR_BYTES && json.len() > limits::MAX_ERROR_BYTES - 16,
                "{character:?}: {}",
                json.len()
            );
            let truncated_failure: Failure = serde_json::from_str(&json).unwrap();
            assert_eq!(
                truncated_failure.message,
                format!("{}… (cut)", character.repeat(kept)),
                "{character:?}: {}",
                truncated_failure.message.len()
            );
        }
        let short_failure = Failure::new("x", "went wrong");
        assert_eq!(encode_failure(&short_failure), r#"{"code":"x","message":"went wrong"}"#);
    }
}
