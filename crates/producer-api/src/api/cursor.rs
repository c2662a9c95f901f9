//! Cursors: the position at which a list of messages continues.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use queue_core::{QueueName, State};
use sha2::{Digest, Sha256};

use crate::errors::{self, Result};

/// A position in the list of one state, or in the lists of all states one after the other.
///
/// A client gets the position as a cursor, which is an opaque text with a checksum. The checksum covers the position and the
/// name of the queue, so a modified cursor, or a cursor of another queue, is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Whether the list contains the messages of all states.
    is_of_all_states: bool,
    /// The state of the messages at this position.
    pub(crate) state: State,
    /// The cursor within the list of the state `state`; `None` at the beginning of the list.
    pub(crate) cursor: Option<String>,
}

impl Position {
    /// Returns the first position of the list of one state, or of all states.
    pub(crate) fn of_first_page(requested: Option<State>) -> Self {
        Self { is_of_all_states: requested.is_none(), state: requested.unwrap_or(State::ALL[0]), cursor: None }
    }

    /// Returns the position after a page; `None` at the end of the list.
    pub(crate) fn after_page(&self, next: Option<String>) -> Option<Self> {
        let state = match next {
            Some(_) => self.state,
            None => *State::ALL.iter().find(|state| self.is_of_all_states && **state > self.state)?,
        };
        Some(Self { is_of_all_states: self.is_of_all_states, state, cursor: next })
    }

    pub(crate) fn encode(&self, queue: &QueueName) -> String {
        let list_kind = if self.is_of_all_states { "all" } else { "one" };
        let cursor = self.cursor.as_deref().unwrap_or_default();
        let text = format!("{list_kind} {} {cursor}", self.state.as_str());
        URL_SAFE_NO_PAD.encode([&checksum(queue, &text), text.as_bytes()].concat())
    }

    /// Decodes a cursor that a client sent for the list of the requested state, or of all states.
    pub(crate) fn decode(text: &str, queue: &QueueName, requested: Option<State>) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let position = bytes.and_then(|bytes| Self::parse(&bytes, queue)).ok_or(errors::INVALID_CURSOR)?;
        match requested {
            None if position.is_of_all_states => Ok(position),
            Some(state) if !position.is_of_all_states && position.state == state => Ok(position),
            _ if position.is_of_all_states => Err(errors::cursor_of_another_list("without a state")),
            _ => Err(errors::cursor_of_another_list(format_args!("with state={}", position.state.as_str()))),
        }
    }

    fn parse(bytes: &[u8], queue: &QueueName) -> Option<Self> {
        let (sent_checksum, text) = bytes.split_first_chunk()?;
        let text = std::str::from_utf8(text).ok().filter(|text| checksum(queue, text) == *sent_checksum)?;
        let [list_kind @ ("one" | "all"), state, cursor] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
        let cursor = (!cursor.is_empty()).then(|| cursor.to_owned());
        Some(Self { is_of_all_states: list_kind == "all", state: state.parse().ok()?, cursor })
    }
}

fn checksum(queue: &QueueName, text: &str) -> [u8; 8] {
    let digest = Sha256::new().chain_update(queue.as_str()).chain_update(b"\t").chain_update(text).finalize();
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_name(name: &str) -> QueueName {
        name.parse().unwrap()
    }

    #[test]
    fn cursor_is_decoded_to_its_position_and_any_other_text_is_refused() {
        let cursor = Some(URL_SAFE_NO_PAD.encode("12:34"));
        let position = Position { is_of_all_states: false, state: State::Failed, cursor };
        let text = position.encode(&queue_name("q"));
        assert_eq!(Position::decode(&text, &queue_name("q"), Some(State::Failed)).unwrap(), position);
        assert!(Position::decode(&text, &queue_name("other"), Some(State::Failed)).is_err());
        assert!(Position::decode(&text, &queue_name("q"), Some(State::Held)).is_err());
        assert!(Position::decode(&text, &queue_name("q"), None).is_err());
        for index in 0..text.len() {
            let mut other_bytes = text.clone().into_bytes();
            other_bytes[index] = if other_bytes[index] == b'A' { b'B' } else { b'A' };
            let other_text = String::from_utf8(other_bytes).unwrap();
            assert!(Position::decode(&other_text, &queue_name("q"), Some(State::Failed)).is_err(), "{other_text}");
        }
        assert!(Position::decode("", &queue_name("q"), None).is_err());
        assert!(Position::decode("!", &queue_name("q"), None).is_err());
    }

    #[test]
    fn list_of_messages_of_all_states_has_the_states_in_order() {
        let mut position = Position::of_first_page(None);
        let mut states = vec![position.state];
        while let Some(next) = position.after_page(None) {
            states.push(next.state);
            position = Position::decode(&next.encode(&queue_name("q")), &queue_name("q"), None).unwrap();
        }
        assert_eq!(states, State::ALL);
        assert_eq!(Position::of_first_page(Some(State::Held)).after_page(None), None);
    }
}
