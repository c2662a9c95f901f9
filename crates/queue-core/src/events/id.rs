//! The ids of events and of the entries of a queue's log.

use std::{fmt, str::FromStr};

use crate::{parse_error::ParseError, time::Timestamp};

/// The id of an event in the log of its queue; a later event has a larger id. No id is used twice, not even by a Redis that was
/// restored from a backup or emptied, so an id never refers to another event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    pub(crate) entry: EntryId,
    /// The number of the event in its entry, from 1; 0 stands for the position before the first event.
    pub(crate) nth: usize,
}

/// The id of an entry: how many bytes were ever written to the log before the entry, and when the entry was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId {
    pub(crate) bytes: u64,
    pub(crate) at: Timestamp,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.bytes, self.at.as_millis())
    }
}

impl FromStr for EntryId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (bytes, at) = text.split_once('-').ok_or(NOT_AN_EVENT_ID)?;
        Ok(Self { bytes: parse_number(bytes)?, at: Timestamp::from_millis(parse_number(at)?) })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.entry, self.nth)
    }
}

impl FromStr for EventId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (entry, nth) = text.rsplit_once('-').ok_or(NOT_AN_EVENT_ID)?;
        Ok(Self { entry: entry.parse()?, nth: usize::try_from(parse_number(nth)?).map_err(|_| NOT_AN_EVENT_ID)? })
    }
}

const NOT_AN_EVENT_ID: &str = "an event's id is three numbers with hyphens between them";

/// Parses a number that has only digits, and at most 15, because Lua's numbers are doubles.
fn parse_number(digits: &str) -> Result<u64, ParseError> {
    if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_AN_EVENT_ID.into());
    }
    digits.parse().map_err(|_| NOT_AN_EVENT_ID.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_id_reads_back_and_invalid_text_is_refused() {
        let id: EventId = "120-1795424400000-2".parse().unwrap();
        assert_eq!(id.to_string(), "120-1795424400000-2");
        assert!(id > "120-1795424400000-1".parse().unwrap() && id < "121-1795424400000-0".parse().unwrap());
        let long_text = format!("1-2-{}", "3".repeat(40));
        for bad in ["", "1", "1-2", "1-2-3-4", "a-2-3", "+1-2-3", "-1-2-3", "1--2-3", " 1-2-3", "1-2-٣", &long_text] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }
}
