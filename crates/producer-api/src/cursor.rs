//! Where a list of messages goes on.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use queue_core::{QueueName, State};
use service::Problem;
use sha2::{Digest, Sha256};

use crate::refusal;

/// A place in the list of one state, or in the lists of all states one after the other.
///
/// Clients carry it as opaque text, with a checksum over it and the queue's name: a slip is told, not taken for a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    scope: Scope,
    /// The state that is listed now.
    pub(crate) state: State,
    /// The place within it; none at its beginning.
    pub(crate) cursor: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    One,
    All,
}

impl Place {
    /// The beginning of the list of one state, or of all.
    pub(crate) fn first(asked: Option<State>) -> Self {
        let (scope, state) = asked.map_or((Scope::All, State::ALL[0]), |state| (Scope::One, state));
        Self { scope, state, cursor: None }
    }

    /// Where the list goes on after a page of it; `None` at the end.
    pub(crate) fn after(&self, next: Option<String>) -> Option<Self> {
        let state = match (&next, self.scope) {
            (Some(_), _) => self.state,
            (None, Scope::One) => return None,
            (None, Scope::All) => *State::ALL.iter().find(|state| **state > self.state)?,
        };
        Some(Self { scope: self.scope, state, cursor: next })
    }

    /// As clients carry it.
    pub(crate) fn encode(&self, queue: &QueueName) -> String {
        let scope = match self.scope {
            Scope::One => "one",
            Scope::All => "all",
        };
        let place = self.cursor.as_deref().unwrap_or_default();
        let text = format!("{scope} {} {place}", self.state.as_str());
        let mut bytes = checksum(queue, &text).to_vec();
        bytes.extend_from_slice(text.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// From what a client carried, for a list of the state `asked` for.
    pub(crate) fn decode(text: &str, queue: &QueueName, asked: Option<State>) -> Result<Self, Problem> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let place = bytes.and_then(|bytes| Self::parse(&bytes, queue)).ok_or_else(refusal::invalid_cursor)?;
        match (place.scope, asked) {
            (Scope::All, None) => Ok(place),
            (Scope::One, Some(state)) if place.state == state => Ok(place),
            (Scope::All, Some(_)) => Err(refusal::cursor_of_another_list("without a state")),
            (Scope::One, _) => {
                Err(refusal::cursor_of_another_list(format_args!("with state={}", place.state.as_str())))
            }
        }
    }

    fn parse(bytes: &[u8], queue: &QueueName) -> Option<Self> {
        let (sum, text) = bytes.split_first_chunk()?;
        let text = std::str::from_utf8(text).ok().filter(|text| checksum(queue, text) == *sum)?;
        let mut words = text.split(' ');
        let scope = match words.next()? {
            "one" => Scope::One,
            "all" => Scope::All,
            _ => return None,
        };
        let state = words.next()?.parse().ok()?;
        let cursor = match words.next()? {
            "" => None,
            place => Some(place.to_owned()),
        };
        Some(Self { scope, state, cursor })
    }
}

fn checksum(queue: &QueueName, text: &str) -> [u8; 8] {
    let sum = Sha256::new().chain_update(queue.as_str()).chain_update(b"\t").chain_update(text).finalize();
    std::array::from_fn(|at| sum[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> QueueName {
        name.parse().unwrap()
    }

    #[test]
    fn what_is_written_reads_back_and_nothing_else_is_taken() {
        let cursor = Some(URL_SAFE_NO_PAD.encode("12:34"));
        let place = Place { scope: Scope::One, state: State::Failed, cursor };
        let text = place.encode(&queue("q"));
        assert_eq!(Place::decode(&text, &queue("q"), Some(State::Failed)).unwrap(), place);
        assert!(Place::decode(&text, &queue("other"), Some(State::Failed)).is_err());
        assert!(Place::decode(&text, &queue("q"), Some(State::Held)).is_err());
        assert!(Place::decode(&text, &queue("q"), None).is_err());
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(Place::decode(&other, &queue("q"), Some(State::Failed)).is_err(), "{other}");
        }
        assert!(Place::decode("", &queue("q"), None).is_err());
        assert!(Place::decode("!", &queue("q"), None).is_err());
    }

    #[test]
    fn all_states_are_listed_one_after_the_other() {
        let mut place = Place::first(None);
        let mut states = vec![place.state];
        while let Some(next) = place.after(None) {
            states.push(next.state);
            place = Place::decode(&next.encode(&queue("q")), &queue("q"), None).unwrap();
        }
        assert_eq!(states, State::ALL);
        assert_eq!(Place::first(Some(State::Held)).after(None), None);
    }
}
