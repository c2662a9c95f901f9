//! Reads the log of events of a queue in batches; the scripts write the log while a client listens.

use deadpool_redis::redis;

use crate::{
    error::{Error, Result},
    events::{Event, EventBatch, EventId, LogEntry},
    queue::{Call, Queue},
    redis::{reply, scripts, suffix},
    time::Millis,
};

/// How long the log is kept after a call of `listen`: ten minutes, and one minute for the interval between two calls.
const LOG_KEPT_FOR: Millis = Millis::from_secs(11 * 60);

impl Queue {
    /// Makes the queue log events for eleven minutes, and returns the id of the newest event; `None` if the queue does not exist.
    /// A client that listens for longer repeats the call, as [`EventFeed`](crate::feed::EventFeed) does.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn listen(&self) -> Result<Option<EventId>> {
        let call = Call::new(&scripts::LISTEN, &self.keys).arg(LOG_KEPT_FOR.get());
        let newest_id: Option<String> = self.call(&scripts::LISTEN, call).await?;
        newest_id.map(|id| id.parse().map_err(Error::unexpected)).transpose()
    }

    /// Reads the events after one event: at most `bytes` of the log, and one more entry. The batch is empty if the log has no
    /// later events; the result is `None` if the log has already lost some of them.
    pub(crate) async fn events_after(&self, id: EventId, bytes: u64) -> Result<Option<EventBatch>> {
        let entry = id.entry;
        let mut range = redis::cmd("XRANGE");
        // The range includes the entry of the event itself: as long as this entry exists, no later entry is missing.
        range.arg(self.keys.key(suffix::EVENTS)).arg(entry.to_string());
        range.arg(format!("({}-0", entry.bytes + bytes));
        let entries: Vec<LogEntry> = reply::decode(self.redis.call(self.keys.slot(), &range).await?)?;
        if entries.is_empty() { Ok(None) } else { EventBatch::decode(id, entries) }
    }

    /// Reads all events after one that [`listen`](Self::listen) returned; `None` if the log has lost some of them. Only tests
    /// call this function; [`EventFeed`](crate::feed::EventFeed) reads events in steps.
    #[doc(hidden)]
    pub async fn all_events_after(&self, id: EventId) -> Result<Option<Vec<Event>>> {
        const LIMIT_OF_ALL_EVENTS: u64 = 1 << 40;
        Ok(self.events_after(id, LIMIT_OF_ALL_EVENTS).await?.map(|batch| batch.events))
    }
}
