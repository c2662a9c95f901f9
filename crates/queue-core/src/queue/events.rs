//! Reads the log of events of a queue in batches; the scripts write the log while a client listens.

use deadpool_redis::redis;

use crate::{
    error::{Error, Result},
    events::{Event, EventBatch, EventId, LogEntry},
    queue::{Call, Queue},
    redis::{reply, scripts, suffix},
    time::Millis,
};

/// How long the event log is kept after a call of `listen`: eleven minutes. A process with listeners calls `listen` every minute, so
/// the log is kept for at least ten minutes after the last listener has gone.
const LOG_KEPT_FOR: Millis = Millis::from_secs(11 * 60);

impl Queue {
    /// Makes the queue log events for eleven minutes, and returns the id of the newest event; `None` if the queue does not exist. A
    /// caller that needs events for longer than eleven minutes calls `listen` repeatedly, as [`EventFeed`](crate::feed::EventFeed)
    /// does.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn listen(&self) -> Result<Option<EventId>> {
        let call = Call::new(&scripts::LISTEN, &self.keys).arg(LOG_KEPT_FOR.get());
        let newest_id: Option<String> = self.call(&scripts::LISTEN, call).await?;
        newest_id.map(|id| id.parse().map_err(Error::unexpected)).transpose()
    }

    /// Reads the events after the event `id`: at most `bytes` of the log, and one more entry. The batch is empty if no event came after
    /// `id`. Returns `None` if the log has already lost some of the events after `id`.
    pub(crate) async fn events_after(&self, id: EventId, bytes: u64) -> Result<Option<EventBatch>> {
        let entry = id.entry;
        let mut range = redis::cmd("XRANGE");
        // The range of entries that is read begins with the entry of the event `id`: as long as the log has the entry of an event, all
        // later entries are in the log too.
        range.arg(self.keys.key(suffix::EVENTS)).arg(entry.to_string());
        range.arg(format!("({}-0", entry.bytes + bytes));
        let entries: Vec<LogEntry> = reply::decode(self.redis.call(self.keys.slot(), &range).await?)?;
        if entries.is_empty() { Ok(None) } else { EventBatch::decode(id, entries) }
    }

    /// Reads all events after the event `id`, which [`listen`](Self::listen) returned; `None` if the log has lost some of the events
    /// after `id`. Only tests call this function; [`EventFeed`](crate::feed::EventFeed) reads events in steps.
    #[doc(hidden)]
    pub async fn all_events_after(&self, id: EventId) -> Result<Option<Vec<Event>>> {
        const NO_BYTE_LIMIT: u64 = 1 << 40;
        Ok(self.events_after(id, NO_BYTE_LIMIT).await?.map(|batch| batch.events))
    }
}
