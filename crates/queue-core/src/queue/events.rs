//! The log of events of a queue: it is written while a client listens, and read in batches.

use deadpool_redis::redis;

use crate::{
    error::{Error, Result},
    events::{Event, EventBatch, EventId, LogEntry},
    queue::{Call, Queue},
    redis::{reply, scripts, suffix},
    time::Millis,
};

/// The log is kept for ten minutes after the last call of `listen`, and for the minute that lies
/// between two such times.
const KEPT_FOR: Millis = Millis::from_secs(11 * 60);

impl Queue {
    /// Lets events be written down for eleven minutes, and answers the id of the newest; `None` if there is no such queue.
    /// A client that listens for longer repeats it, as [`EventFeed`](crate::EventFeed) does.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn listen(&self) -> Result<Option<EventId>> {
        let call = Call::new(&scripts::LISTEN, &self.keys).arg(KEPT_FOR.get());
        let newest: Option<String> = self.call(&scripts::LISTEN, call).await?;
        newest.map(|id| id.parse().map_err(Error::unexpected)).transpose()
    }

    /// The next events after one, of so many bytes of the log and an entry more; no events if there are none; `None` if not
    /// everything that came after it is still there.
    pub(crate) async fn events_after(&self, id: EventId, bytes: u64) -> Result<Option<EventBatch>> {
        let place = id.place;
        let mut range = redis::cmd("XRANGE");
        // With the entry that the event is in: it is there as long as nothing after it is missing.
        range.arg(self.keys.key(suffix::EVENTS)).arg(place.to_string());
        range.arg(format!("({}-0", place.bytes + bytes));
        let entries: Vec<LogEntry> = reply::decode(self.redis.call(&range).await?)?;
        if entries.is_empty() { Ok(None) } else { EventBatch::decode(id, entries) }
    }

    /// All events after one, as [`listen`](Self::listen) answered it; `None` if not all of them are there. For tests:
    /// [`EventFeed`](crate::EventFeed) read in steps.
    #[doc(hidden)]
    pub async fn all_events_after(&self, id: EventId) -> Result<Option<Vec<Event>>> {
        const ALL: u64 = 1 << 40;
        Ok(self.events_after(id, ALL).await?.map(|batch| batch.events))
    }
}
