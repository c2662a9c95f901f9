//! The ids of events: places in the log of a queue.

use std::{fmt, str::FromStr};

use crate::{parse_error::ParseError, time::Timestamp};

/// Where an event stands in the log of its queue; the later event has the larger one. No place is used twice, not even by
/// a Redis that was restored from a backup or emptied, so a place that is found is the one that was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    pub(crate) place: Place,
    /// Which event of the entry, from 1; or 0 before the first.
    pub(crate) nth: usize,
}

/// Where an entry stands: how many bytes the log ever had before it, and when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) bytes: u64,
    pub(crate) at: Timestamp,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.bytes, self.at.as_millis())
    }
}

impl FromStr for Place {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (bytes, at) = text.split_once('-').ok_or(NOT_AN_EVENT)?;
        Ok(Self { bytes: number(bytes)?, at: Timestamp::from_millis(number(at)?) })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.place, self.nth)
    }
}

impl FromStr for EventId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (place, nth) = text.rsplit_once('-').ok_or(NOT_AN_EVENT)?;
        Ok(Self { place: place.parse()?, nth: usize::try_from(number(nth)?).map_err(|_| NOT_AN_EVENT)? })
    }
}

const NOT_AN_EVENT: &str = "an event's id is three numbers with hyphens between them";

/// Digits alone, and few enough to be of a double, as Redis's scripts count.
fn number(digits: &str) -> Result<u64, ParseError> {
    if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_AN_EVENT.into());
    }
    digits.parse().map_err(|_| NOT_AN_EVENT.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_id_reads_back_and_invalid_text_is_none() {
        let id: EventId = "120-1795424400000-2".parse().unwrap();
        assert_eq!(id.to_string(), "120-1795424400000-2");
        assert!(id > "120-1795424400000-1".parse().unwrap() && id < "121-1795424400000-0".parse().unwrap());
        let long = format!("1-2-{}", "3".repeat(40));
        for bad in ["", "1", "1-2", "1-2-3-4", "a-2-3", "+1-2-3", "-1-2-3", "1--2-3", " 1-2-3", "1-2-٣", &long] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }
}
