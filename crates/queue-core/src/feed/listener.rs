//! One listener to the events of a queue: it receives updates from the event reader, and reads missed events itself.

use std::{
    ops::Range,
    slice,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::{
        Semaphore,
        broadcast::{self, error::RecvError},
    },
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Result,
    events::{batch::EventBatch, event::Event, id::EventId},
    feed::reader::FeedUpdate,
    queue::Queue,
};

/// The pause of a listener that could not read missed events.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// The maximum bytes of JSON of the events that a listener receives together; a single event may be larger.
const MAX_RECEIVED_BYTES: usize = 8 * 1_024;
/// The maximum bytes of the log that one read of a listener returns; the read may return one more entry.
const MAX_READ_BYTES: u64 = 4 * 1_024;

/// A listener to the events of a queue.
///
/// Between two calls of [`next_events`](Self::next_events) the listener keeps no event in memory, so even thousands of slow
/// listeners take little memory.
pub struct EventListener {
    queue: Arc<Queue>,
    updates: broadcast::Receiver<FeedUpdate>,
    /// The id of the event that the listener received last; `None` while the queue does not exist.
    last: Option<EventId>,
    /// The batch that has the next events to receive, as long as the batch is in memory; `None` if all events of the batch were
    /// received.
    rest: Option<Weak<EventBatch>>,
    phase: ListenerPhase,
    read_limit: Arc<Semaphore>,
    shutdown: CancellationToken,
}

/// Where a listener gets its next events from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListenerPhase {
    /// The listener reads missed events from the log.
    CatchingUp,
    /// The listener receives new events from the reader of the queue's event log.
    Live,
}

/// Events of a queue that a listener received together, in the order in which they happened.
#[derive(Debug, Clone)]
pub struct Events(EventsOrReset);

/// A range of the events of a batch, or the event `reset` alone, which tells that events were lost.
#[derive(Debug, Clone)]
enum EventsOrReset {
    Events(Arc<EventBatch>, Range<usize>),
    Reset(Event),
}

impl Events {
    fn new_reset(newest: Option<EventId>) -> Self {
        Self(EventsOrReset::Reset(Event::new_reset(newest)))
    }

    /// Iterates over the events of a queue that a listener received together, in the order in which they happened.
    pub fn iter(&self) -> slice::Iter<'_, Event> {
        match &self.0 {
            EventsOrReset::Events(batch, range) => batch.events[range.clone()].iter(),
            EventsOrReset::Reset(event) => slice::from_ref(event).iter(),
        }
    }
}

/// Why a listener has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenerEnd {
    /// The listener received events too slowly, so the feed has dropped events that the listener has not received. The event log still
    /// has the dropped events: the caller should listen again, after the last received event.
    #[error("the listener fell too far behind")]
    TooSlow,
    /// The process of the listener stops.
    #[error("this process stops")]
    Stopping,
}

impl EventListener {
    /// A listener that receives `updates`, which continue after `newest`. If `last` is given, the listener first receives the
    /// events after `last`.
    pub(crate) fn new(
        queue: Arc<Queue>,
        updates: broadcast::Receiver<FeedUpdate>,
        newest: EventId,
        last: Option<EventId>,
        read_limit: Arc<Semaphore>,
        shutdown: CancellationToken,
    ) -> Self {
        let phase = if last.is_some() { ListenerPhase::CatchingUp } else { ListenerPhase::Live };
        Self { queue, updates, last: last.or(Some(newest)), rest: None, phase, read_limit, shutdown }
    }

    /// The id of the event that the listener received last; `None` while the queue does not exist.
    pub fn last(&self) -> Option<EventId> {
        self.last
    }

    /// Waits for the next events. Dropping the future of `next_events` loses no event.
    ///
    /// # Errors
    ///
    /// The listener has ended, because it received events too slowly or because its process stops.
    pub async fn next_events(&mut self) -> Result<Events, ListenerEnd> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            received = self.wait_for_events() => received,
            () = shutdown.cancelled() => Err(ListenerEnd::Stopping),
        }
    }

    async fn wait_for_events(&mut self) -> Result<Events, ListenerEnd> {
        loop {
            if let (Some(rest), Some(last)) = (self.rest.take(), self.last) {
                match rest.upgrade() {
                    Some(batch) => return Ok(self.receive_from_batch(batch, last)),
                    None => self.phase = ListenerPhase::CatchingUp,
                }
            }
            if let (ListenerPhase::CatchingUp, Some(last)) = (self.phase, self.last) {
                match self.catch_up(last).await {
                    Ok(Some(received)) => return Ok(received),
                    Ok(None) => {}
                    Err(_) => sleep(PAUSE_AFTER_ERROR).await,
                }
                continue;
            }
            match self.updates.recv().await {
                Ok(update) => {
                    if let Some(received) = self.apply_update(update) {
                        return Ok(received);
                    }
                }
                Err(RecvError::Lagged(_)) => return Err(ListenerEnd::TooSlow),
                Err(RecvError::Closed) => return Err(ListenerEnd::Stopping),
            }
        }
    }

    /// Reads a bounded part of the events that the listener missed.
    async fn catch_up(&mut self, last: EventId) -> Result<Option<Events>> {
        // Acquiring the permit can't fail, because the semaphore is never closed.
        let _permit = Arc::clone(&self.read_limit).acquire_owned().await;
        // The new receiver gets every update that the reader sends from now on, so no event is missed between the following read of the
        // log and the updates.
        let updates = self.updates.resubscribe();
        if let Some(batch) = self.queue.events_after(last, MAX_READ_BYTES).await? {
            self.updates = updates;
            if batch.end == last {
                self.phase = ListenerPhase::Live;
                return Ok(None);
            }
            return Ok(Some(self.receive_from_batch(Arc::new(batch), last)));
        }
        let newest_id = self.queue.listen().await?;
        (self.updates, self.phase, self.last) = (updates, ListenerPhase::Live, newest_id);
        Ok(Some(Events::new_reset(newest_id)))
    }

    /// Returns the events of a batch that the listener receives next, and notes the last of these events as the last received event.
    fn receive_from_batch(&mut self, batch: Arc<EventBatch>, after: EventId) -> Events {
        let range = batch.next_event_range(after, MAX_RECEIVED_BYTES);
        let (last, rest) = match batch.events.get(range.end) {
            None => (Some(batch.end), None),
            Some(_) => (batch.events[range.end - 1].id, Some(Arc::downgrade(&batch))),
        };
        (self.last, self.rest) = (last, rest);
        Events(EventsOrReset::Events(batch, range))
    }

    fn apply_update(&mut self, update: FeedUpdate) -> Option<Events> {
        match (update, self.last) {
            (FeedUpdate::Reset(newest), _) => {
                self.last = Some(newest);
                Some(Events::new_reset(self.last))
            }
            (FeedUpdate::QueueDeleted, Some(_)) => {
                self.last = None;
                Some(Events::new_reset(None))
            }
            (FeedUpdate::NewEvents { after, batch }, Some(last)) if batch.end > last => {
                if after > last {
                    self.phase = ListenerPhase::CatchingUp;
                    return None;
                }
                Some(self.receive_from_batch(batch, last))
            }
            (FeedUpdate::QueueDeleted | FeedUpdate::NewEvents { .. }, _) => None,
        }
    }
}
