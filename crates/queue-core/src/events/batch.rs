//! Decodes a part of the log of events.

use std::ops::Range;

use crate::{
    error::{Error, Result},
    events::{
        event::Event,
        id::{EntryId, EventId},
    },
};

/// The type of the entry that marks the start of an event log; this entry is no event.
const FIRST_ENTRY: &str = "listening";

/// A part of the log of events: the events that come after one given event.
#[derive(Debug, Clone)]
pub(crate) struct EventBatch {
    /// The events, in the order in which they happened.
    pub(crate) events: Vec<Event>,
    /// The id up to which the log was read: that of the last event, or of a later entry without a known event.
    pub(crate) end: EventId,
}

/// An entry of the log: its id, and the type and the text of each event.
pub(crate) type LogEntry = (String, Vec<(String, String)>);

impl EventBatch {
    /// A batch without events, for a log that was read up to its newest event.
    pub(crate) fn empty(newest: EventId) -> Self {
        Self { events: Vec::new(), end: newest }
    }

    /// Returns the index range of the next events: those that come after the event `after` and together have at most `bytes` bytes of
    /// JSON. A single larger event is included too.
    pub(crate) fn next_event_range(&self, after: EventId, bytes: usize) -> Range<usize> {
        let first_index = self.events.partition_point(|event| event.id <= Some(after));
        let mut bytes_left = bytes;
        let fitting_events = self.events[first_index..].iter().take_while(|event| {
            let is_first = bytes_left == bytes;
            let fits_in_range = event.json().len() <= bytes_left;
            bytes_left = bytes_left.saturating_sub(event.json().len());
            is_first || fits_in_range
        });
        first_index..first_index + fitting_events.count()
    }

    /// Decodes entries of the event log. Returns `None` if the first of these entries does not contain the event with the id `after`.
    pub(crate) fn decode(after: EventId, entries: Vec<LogEntry>) -> Result<Option<Self>> {
        let mut batch = Self::empty(after);
        for (nth, (entry, events)) in entries.into_iter().enumerate() {
            let entry: EntryId = entry.parse().map_err(Error::unexpected)?;
            if nth == 0 && entry != after.entry {
                return Ok(None);
            }
            let mut id = EventId { entry, nth: 0 };
            batch.end = id.max(after);
            for (event_type, text) in events.into_iter().filter(|(event_type, _)| event_type != FIRST_ENTRY) {
                id.nth += 1;
                if id > after {
                    batch.events.extend(Event::decode(id, &event_type, &text));
                    batch.end = id;
                }
            }
            if nth == 0 && id < after {
                return Ok(None);
            }
        }
        Ok(Some(batch))
    }
}
