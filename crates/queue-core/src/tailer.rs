//! Reads the log of one queue for all who listen to it in this process.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use crate::{Bell, EventId, Queue, Result, Retry, listeners::Shared, stretch::Stretch};

/// How long a tailer that hears nothing sleeps at most: a notification may be lost.
const POLL: Duration = Duration::from_secs(5);
/// How often a tailer whose queue is gone looks for a new one.
const LOOK_FOR_A_NEW_QUEUE_EVERY: Duration = Duration::from_secs(1);
/// Looks that find something are so far apart: what happens meanwhile is read at once.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// At most so many bytes of the log are read at once, and an entry more.
const STEP_BYTES: u64 = 64 * 1_024;
/// So many stretches are kept for those who take them portion by portion. A listener that is slower reads them itself.
const AT_HAND: usize = 8;
/// How often a tailer says that somebody listens; the log is kept for ten minutes more.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Reads the log of one queue for all who listen to it in this process, until nobody does.
pub(crate) struct Tailer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    bell: Arc<Bell>,
    tail: broadcast::Sender<News>,
    at: ReadTo,
    at_hand: VecDeque<Arc<Stretch>>,
}

/// How far a tailer has read.
#[derive(Debug, Clone, Copy)]
enum ReadTo {
    /// It has not looked yet.
    Unknown,
    /// Up to this event.
    After(EventId),
    /// The queue is gone, or was when it looked last.
    NoQueue,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// As much as is read at once: there is more.
    Much,
    Something,
    Nothing,
}

impl Tailer {
    /// It has read nothing yet, and tells by `tail` what it reads.
    pub(crate) fn new(shared: Arc<Shared>, queue: Arc<Queue>, tail: broadcast::Sender<News>) -> Self {
        let bell = shared.subscriber.bell_of_events(queue.name());
        Self { shared, queue, bell, tail, at: ReadTo::Unknown, at_hand: VecDeque::with_capacity(AT_HAND) }
    }

    /// Works until nobody listens, or until the shutdown.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.follow() => {}
            // Those who listen learn it when the last end of the channel goes.
            () = shared.shutdown.cancelled() => drop(shared.tails.lock().remove(self.queue.name())),
        }
    }

    async fn follow(&mut self) {
        let mut retry = Retry::new();
        let mut told = false;
        let mut say_at = Instant::now() + SAY_EVERY;
        while self.has_listeners() {
            let looked = async {
                if say_at <= Instant::now() {
                    self.queue.listen().await?;
                    say_at = Instant::now() + SAY_EVERY;
                }
                self.look().await
            };
            match looked.await {
                Ok(found) => {
                    retry.reset();
                    if std::mem::take(&mut told) {
                        info!(queue = %self.queue.name(), "events can be read again");
                    }
                    match found {
                        Found::Much => {}
                        Found::Something => sleep(BETWEEN_LOOKS).await,
                        // What rang during the look counts.
                        Found::Nothing => self.bell.time_to_look(self.patience()).await,
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(queue = %self.queue.name(), %error, "events can't be read, trying on");
                    }
                    sleep(retry.pause()).await;
                }
            }
        }
    }

    /// Whether anybody listens; if not, this tailer is no longer the queue's.
    fn has_listeners(&self) -> bool {
        let mut tails = self.shared.tails.lock();
        let has_listeners = self.tail.receiver_count() > 0;
        if !has_listeners {
            tails.remove(self.queue.name());
        }
        has_listeners
    }

    fn patience(&self) -> Duration {
        match self.at {
            ReadTo::NoQueue => LOOK_FOR_A_NEW_QUEUE_EVERY,
            ReadTo::Unknown | ReadTo::After(_) => POLL,
        }
    }

    async fn look(&mut self) -> Result<Found> {
        if let ReadTo::After(last) = self.at
            && let Some(stretch) = self.queue.events_after(last, STEP_BYTES).await?
        {
            if stretch.end == last {
                return Ok(Found::Nothing);
            }
            let is_much = stretch.end.place.bytes >= last.place.bytes + STEP_BYTES / 2;
            let stretch = Arc::new(stretch);
            self.at_hand.truncate(AT_HAND - 1);
            self.at_hand.push_front(Arc::clone(&stretch));
            self.tell(News::Happened { after: last, stretch });
            return Ok(if is_much { Found::Much } else { Found::Something });
        }
        let news = match (self.at, self.queue.listen().await?) {
            // Whoever has heard less than this reads it.
            (ReadTo::Unknown, Some(newest)) => {
                News::Happened { after: newest, stretch: Arc::new(Stretch::empty(newest)) }
            }
            (_, Some(newest)) => News::Reset(newest),
            (ReadTo::NoQueue, None) => return Ok(Found::Nothing),
            (_, None) => News::Lost,
        };
        self.tell(news);
        Ok(Found::Nothing)
    }

    fn tell(&mut self, news: News) {
        self.at = match &news {
            News::Happened { stretch, .. } => ReadTo::After(stretch.end),
            News::Reset(newest) => ReadTo::After(*newest),
            News::Lost => ReadTo::NoQueue,
        };
        // Whoever listened may have gone.
        let _ = self.tail.send(news);
    }
}

/// What a tailer tells those who listen.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// This, after that event.
    Happened {
        /// The event before it.
        after: EventId,
        /// What happened.
        stretch: Arc<Stretch>,
    },
    /// The log does not go on from where it was: after this event it does.
    Reset(EventId),
    /// There is no such queue any more.
    Lost,
}
