//! One listener to the events of a queue: it receives updates of the event reader, and reads by itself what it missed.

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
    events::{
        batch::{EventBatch, FeedUpdate},
        event::Event,
        id::EventId,
    },
    queue::Queue,
};

/// How long a listener that can't read what it missed waits before it tries again.
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);

/// The most bytes of JSON that one portion of events has, unless it is one event.
const PORTION_BYTES: usize = 8 * 1_024;
/// At most so many bytes of the log, and an entry more, are read at once for one listener alone.
const STEP_BYTES: u64 = 4 * 1_024;

/// A listener to the events of a queue.
///
/// Between two calls of [`hear`](Self::hear) it holds no event: thousands may be slow at the same time.
pub struct EventListener {
    queue: Arc<Queue>,
    updates: broadcast::Receiver<FeedUpdate>,
    /// The event that was heard last; `None` while there is no queue.
    last: Option<EventId>,
    /// Where the next portion is, as long as it is at hand; none when everything of it was heard.
    rest: Option<Weak<EventBatch>>,
    phase: Phase,
    reading: Arc<Semaphore>,
    shutdown: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It reads by itself what it has missed.
    CatchingUp,
    /// It receives the updates of the reader.
    Live,
}

/// Some events, in the order in which they happened.
#[derive(Debug, Clone)]
pub struct Events(Part);

#[derive(Debug, Clone)]
enum Part {
    Of(Arc<EventBatch>, Range<usize>),
    Reset(Event),
}

impl Events {
    fn reset(newest: Option<EventId>) -> Self {
        Self(Part::Reset(Event::reset(newest)))
    }

    /// One by one.
    pub fn iter(&self) -> slice::Iter<'_, Event> {
        match &self.0 {
            Part::Of(batch, portion) => batch.events[portion.clone()].iter(),
            Part::Reset(event) => slice::from_ref(event).iter(),
        }
    }
}

/// Why a listener has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It fell behind the other listeners. The events that it missed are in the log: listen again, from after the last one.
    #[error("it fell too far behind")]
    TooSlow,
    /// This process stops.
    #[error("this process stops")]
    Stopping,
}

impl EventListener {
    /// Receives `updates`, which go on from `newest`; but first the events after `last`, if there is one.
    pub(crate) fn new(
        queue: Arc<Queue>,
        updates: broadcast::Receiver<FeedUpdate>,
        newest: EventId,
        last: Option<EventId>,
        reading: Arc<Semaphore>,
        shutdown: CancellationToken,
    ) -> Self {
        let phase = if last.is_some() { Phase::CatchingUp } else { Phase::Live };
        Self { queue, updates, last: last.or(Some(newest)), rest: None, phase, reading, shutdown }
    }

    /// The event after which everything is heard; `None` while there is no queue.
    pub fn last(&self) -> Option<EventId> {
        self.last
    }

    /// Waits for the next events. Safe to drop half-way.
    ///
    /// # Errors
    ///
    /// When there will be nothing more: it fell too far behind, or this process stops.
    pub async fn hear(&mut self) -> Result<Events, Ended> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            heard = self.hear_next() => heard,
            () = shutdown.cancelled() => Err(Ended::Stopping),
        }
    }

    async fn hear_next(&mut self) -> Result<Events, Ended> {
        loop {
            if let (Some(rest), Some(last)) = (self.rest.take(), self.last) {
                match rest.upgrade() {
                    Some(batch) => return Ok(self.hand_out(batch, last)),
                    None => self.phase = Phase::CatchingUp,
                }
            }
            if let (Phase::CatchingUp, Some(last)) = (self.phase, self.last) {
                match self.catch_up(last).await {
                    Ok(Some(heard)) => return Ok(heard),
                    Ok(None) => {}
                    Err(_) => sleep(AFTER_AN_ERROR).await,
                }
                continue;
            }
            match self.updates.recv().await {
                Ok(updates) => {
                    if let Some(heard) = self.take(updates) {
                        return Ok(heard);
                    }
                }
                Err(RecvError::Lagged(_)) => return Err(Ended::TooSlow),
                Err(RecvError::Closed) => return Err(Ended::Stopping),
            }
        }
    }

    /// Reads what was missed, a bounded part.
    async fn catch_up(&mut self, last: EventId) -> Result<Option<Events>> {
        // It is never closed.
        let _permit = Arc::clone(&self.reading).acquire_owned().await;
        // Updates of the reader are received from here on, so that no gap lies between them and this read.
        let updates = self.updates.resubscribe();
        if let Some(batch) = self.queue.events_after(last, STEP_BYTES).await? {
            self.updates = updates;
            if batch.end == last {
                self.phase = Phase::Live;
                return Ok(None);
            }
            return Ok(Some(self.hand_out(Arc::new(batch), last)));
        }
        let newest = self.queue.listen().await?;
        (self.updates, self.phase, self.last) = (updates, Phase::Live, newest);
        Ok(Some(Events::reset(newest)))
    }

    /// The next portion of a batch.
    fn hand_out(&mut self, batch: Arc<EventBatch>, after: EventId) -> Events {
        let portion = batch.portion(after, PORTION_BYTES);
        let (last, rest) = match batch.events.get(portion.end) {
            None => (Some(batch.end), None),
            Some(_) => (batch.events[portion.end - 1].id, Some(Arc::downgrade(&batch))),
        };
        (self.last, self.rest) = (last, rest);
        Events(Part::Of(batch, portion))
    }

    fn take(&mut self, updates: FeedUpdate) -> Option<Events> {
        match (updates, self.last) {
            (FeedUpdate::Reset(newest), _) => {
                self.last = Some(newest);
                Some(Events::reset(self.last))
            }
            (FeedUpdate::Lost, Some(_)) => {
                self.last = None;
                Some(Events::reset(None))
            }
            (FeedUpdate::Happened { after, batch }, Some(last)) if batch.end > last => {
                if after > last {
                    self.phase = Phase::CatchingUp;
                    return None;
                }
                Some(self.hand_out(batch, last))
            }
            (FeedUpdate::Lost | FeedUpdate::Happened { .. }, _) => None,
        }
    }
}
