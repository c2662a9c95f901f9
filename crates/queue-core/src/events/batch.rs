//! A part of the log of events, decoded.

use std::ops::Range;
use std::sync::Arc;

use crate::{
    error::{Error, Result},
    events::{
        event::Event,
        id::{EventId, Place},
    },
};

/// The word of the entry with which a log begins; it is no event.
const MARK: &str = "listening";

/// The events of a log after a place.
#[derive(Debug, Clone)]
pub(crate) struct EventBatch {
    /// In the order in which it happened.
    pub(crate) events: Vec<Event>,
    /// The place of the last of them, or that of an entry without a known event.
    pub(crate) end: EventId,
}

/// An entry of the log: its place, and the word and the text of each event.
pub(crate) type LogEntry = (String, Vec<(String, String)>);

impl EventBatch {
    /// Of a log that nothing is known of but its newest event.
    pub(crate) fn empty(newest: EventId) -> Self {
        Self { events: Vec::new(), end: newest }
    }

    /// The events after `after` that are in memory, up to this many bytes of JSON, but at least one.
    pub(crate) fn portion(&self, after: EventId, bytes: usize) -> Range<usize> {
        let start = self.events.partition_point(|event| event.id <= Some(after));
        let mut left = bytes;
        let fitting = self.events[start..].iter().take_while(|event| {
            let is_first = left == bytes;
            let fits = event.json().len() <= left;
            left = left.saturating_sub(event.json().len());
            is_first || fits
        });
        start..start + fitting.count()
    }

    /// From entries of the log, the first of which must be the one that `after` is in; `None` if it is not.
    pub(crate) fn decode(after: EventId, entries: Vec<LogEntry>) -> Result<Option<Self>> {
        let mut batch = Self::empty(after);
        for (nth, (place, events)) in entries.into_iter().enumerate() {
            let place: Place = place.parse().map_err(Error::unexpected)?;
            if nth == 0 && place != after.place {
                return Ok(None);
            }
            let mut id = EventId { place, nth: 0 };
            batch.end = id.max(after);
            for (word, text) in events.into_iter().filter(|(word, _)| word != MARK) {
                id.nth += 1;
                if id > after {
                    batch.events.extend(Event::decode(id, &word, &text));
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

/// An update that an event reader sends to the listeners.
#[derive(Debug, Clone)]
pub(crate) enum FeedUpdate {
    /// This, after that event.
    Happened {
        /// The event before it.
        after: EventId,
        /// The events.
        batch: Arc<EventBatch>,
    },
    /// The log does not go on from where it was: after this event it does.
    Reset(EventId),
    /// There is no such queue any more.
    Lost,
}
