//! One listener to the events of a queue: it hears what is told, and reads by itself what it missed.

use std::{
    ops::Range,
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

use crate::{Event, EventId, Queue, Result, stretch::Stretch, tailer::News};

/// How long a listener that can't read what it missed waits before it tries again.
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);

/// The events that are heard at once have at most so many bytes of JSON, or are one event.
const PORTION_BYTES: usize = 8 * 1_024;
/// At most so many bytes of the log, and an entry more, are read at once for one listener alone.
const STEP_BYTES: u64 = 4 * 1_024;

/// One who listens to what happens in a queue.
///
/// Between two calls of [`hear`](Self::hear) it holds nothing of what it will hear: thousands may be slow at the same time.
pub struct Listener {
    queue: Arc<Queue>,
    news: broadcast::Receiver<News>,
    /// What was heard last; `None` while there is no queue.
    last: Option<EventId>,
    /// Where the next portion is, as long as it is at hand; none when everything of it was heard.
    rest: Option<Weak<Stretch>>,
    phase: Phase,
    reading: Arc<Semaphore>,
    shutdown: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It reads by itself what it has missed.
    CatchingUp,
    /// It hears what the tailer reads.
    Live,
}

/// What a listener hears.
#[derive(Debug, Clone)]
pub enum Heard {
    /// This happened.
    Events(Events),
    /// What happened before is no longer known in full: it was too long ago, or the queue was deleted, or Redis has lost its
    /// memory. Everything that happens after this event is heard; with none, there is no such queue now.
    Reset(Option<EventId>),
}

/// Some events, in the order in which they happened.
#[derive(Debug, Clone)]
pub struct Events {
    stretch: Arc<Stretch>,
    portion: Range<usize>,
}

impl Events {
    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.stretch.events[self.portion.clone()].iter()
    }
}

/// Why a listener hears no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It did not listen while others did; what it missed is in the log: listen again, from after what was heard last.
    #[error("it fell too far behind")]
    TooSlow,
    /// This process stops.
    #[error("this process stops")]
    Stopping,
}

impl Listener {
    /// It hears `news`, which go on from `newest`; but first what came after `last`, if there is one.
    pub(crate) fn new(
        queue: Arc<Queue>,
        news: broadcast::Receiver<News>,
        newest: EventId,
        last: Option<EventId>,
        reading: Arc<Semaphore>,
        shutdown: CancellationToken,
    ) -> Self {
        let phase = if last.is_some() { Phase::CatchingUp } else { Phase::Live };
        Self { queue, news, last: last.or(Some(newest)), rest: None, phase, reading, shutdown }
    }

    /// The event after which everything is heard; `None` while there is no queue.
    pub fn last(&self) -> Option<EventId> {
        self.last
    }

    /// Waits until there is something to hear. Safe to give up half-way.
    ///
    /// # Errors
    ///
    /// [`Ended`], when there will be nothing more.
    pub async fn hear(&mut self) -> Result<Heard, Ended> {
        let shutdown = self.shutdown.clone();
        tokio::select! {
            heard = self.hear_next() => heard,
            () = shutdown.cancelled() => Err(Ended::Stopping),
        }
    }

    async fn hear_next(&mut self) -> Result<Heard, Ended> {
        loop {
            if let (Some(rest), Some(last)) = (self.rest.take(), self.last) {
                match rest.upgrade() {
                    Some(stretch) => return Ok(self.hand_out(stretch, last)),
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
            match self.news.recv().await {
                Ok(news) => {
                    if let Some(heard) = self.take(news) {
                        return Ok(heard);
                    }
                }
                Err(RecvError::Lagged(_)) => return Err(Ended::TooSlow),
                Err(RecvError::Closed) => return Err(Ended::Stopping),
            }
        }
    }

    /// Reads what was missed, a bounded part.
    async fn catch_up(&mut self, last: EventId) -> Result<Option<Heard>> {
        // It is never closed.
        let _permit = Arc::clone(&self.reading).acquire_owned().await;
        // What the tailer tells from here on is heard, so that nothing lies between what is read and that.
        let news = self.news.resubscribe();
        if let Some(stretch) = self.queue.events_after(last, STEP_BYTES).await? {
            self.news = news;
            if stretch.end == last {
                self.phase = Phase::Live;
                return Ok(None);
            }
            return Ok(Some(self.hand_out(Arc::new(stretch), last)));
        }
        let newest = self.queue.listen().await?;
        (self.news, self.phase, self.last) = (news, Phase::Live, newest);
        Ok(Some(Heard::Reset(newest)))
    }

    /// The next portion of a stretch.
    fn hand_out(&mut self, stretch: Arc<Stretch>, after: EventId) -> Heard {
        let portion = stretch.portion(after, PORTION_BYTES);
        let (last, rest) = match stretch.events.get(portion.end) {
            None => (stretch.end, None),
            Some(_) => (stretch.events[portion.end - 1].id, Some(Arc::downgrade(&stretch))),
        };
        (self.last, self.rest) = (Some(last), rest);
        Heard::Events(Events { stretch, portion })
    }

    fn take(&mut self, news: News) -> Option<Heard> {
        match (news, self.last) {
            (News::Reset(newest), _) => {
                self.last = Some(newest);
                Some(Heard::Reset(self.last))
            }
            (News::Lost, Some(_)) => {
                self.last = None;
                Some(Heard::Reset(None))
            }
            (News::Happened { after, stretch }, Some(last)) if stretch.end > last => {
                if after > last {
                    self.phase = Phase::CatchingUp;
                    return None;
                }
                Some(self.hand_out(stretch, last))
            }
            (News::Lost | News::Happened { .. }, _) => None,
        }
    }
}
