//! Reads the log of one queue for all its listeners in this process.

use std::collections::HashMap;
use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::{
    error::Result,
    events::{
        batch::{EventBatch, FeedUpdate},
        id::EventId,
    },
    message::QueueName,
    queue::Queue,
    redis::Retry,
    wakeup::{Subscriber, WakeNotifier},
};

/// The maximum sleep of a reader without a wake-up, because a notification may be lost.
const POLL: Duration = Duration::from_secs(5);
/// The interval at which a reader whose queue was deleted checks for a new one.
const LOOK_FOR_A_NEW_QUEUE_EVERY: Duration = Duration::from_secs(1);
/// Looks that find something are so far apart: what happens meanwhile is read at once.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// The maximum number of bytes of the log, apart from one entry, that a read returns.
const STEP_BYTES: u64 = 64 * 1_024;
/// How many batches are kept for listeners that take them portion by portion. A slower listener reads them itself.
const AT_HAND: usize = 8;
/// The interval at which a reader renews the log, which is then kept for ten more minutes.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// State that the listeners of a process share.
pub(crate) struct Shared {
    pub(crate) subscriber: Subscriber,
    pub(super) readers: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// One for each queue that has a reader.
    pub(crate) tails: Mutex<HashMap<QueueName, broadcast::Sender<FeedUpdate>>>,
    /// For those that read for themselves alone.
    pub(super) reading: Arc<Semaphore>,
}

/// Reads the log of one queue for all its listeners in this process, until there is none.
pub(crate) struct EventReader {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    notifier: Arc<WakeNotifier>,
    tail: broadcast::Sender<FeedUpdate>,
    at: ReadTo,
    at_hand: VecDeque<Arc<EventBatch>>,
}

/// How far a reader has read.
#[derive(Debug, Clone, Copy)]
enum ReadTo {
    /// It has not looked yet.
    Unknown,
    /// Up to this event.
    After(EventId),
    /// The queue is gone, or was when it looked last.
    NoQueue,
}

/// The result of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// As much as is read at once: there is more.
    Much,
    Something,
    Nothing,
}

impl EventReader {
    /// A reader that has read nothing yet, and sends its updates by `tail`.
    pub(crate) fn new(shared: Arc<Shared>, queue: Arc<Queue>, tail: broadcast::Sender<FeedUpdate>) -> Self {
        let notifier = shared.subscriber.notifier_of_events(queue.name());
        Self { shared, queue, notifier, tail, at: ReadTo::Unknown, at_hand: VecDeque::with_capacity(AT_HAND) }
    }

    /// Works until there is no listener, or until the shutdown.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.follow() => {}
            // The listeners learn it when the last sender of the channel goes.
            () = shared.shutdown.cancelled() => drop(shared.tails.lock().remove(self.queue.name())),
        }
    }

    async fn follow(&mut self) {
        let mut retry = Retry::new();
        let mut is_logged = false;
        let mut renew_at = Instant::now() + RENEW_EVERY;
        while self.has_listeners() {
            let looked = async {
                if renew_at <= Instant::now() {
                    self.queue.listen().await?;
                    renew_at = Instant::now() + RENEW_EVERY;
                }
                self.look().await
            };
            match looked.await {
                Ok(found) => {
                    retry.reset();
                    if std::mem::take(&mut is_logged) {
                        info!(queue = %self.queue.name(), "events can be read again");
                    }
                    match found {
                        Found::Much => {}
                        Found::Something => sleep(BETWEEN_LOOKS).await,
                        // A wake-up during the look counts.
                        Found::Nothing => self.notifier.woken(self.patience()).await,
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_logged, true) {
                        warn!(queue = %self.queue.name(), %error, "events can't be read, trying on");
                    }
                    sleep(retry.pause()).await;
                }
            }
        }
    }

    /// Whether there is a listener; if not, this reader is no longer the queue's.
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
            && let Some(batch) = self.queue.events_after(last, STEP_BYTES).await?
        {
            if batch.end == last {
                return Ok(Found::Nothing);
            }
            let is_much = batch.end.place.bytes >= last.place.bytes + STEP_BYTES / 2;
            let batch = Arc::new(batch);
            self.at_hand.truncate(AT_HAND - 1);
            self.at_hand.push_front(Arc::clone(&batch));
            self.send(FeedUpdate::Happened { after: last, batch });
            return Ok(if is_much { Found::Much } else { Found::Something });
        }
        let update = match (self.at, self.queue.listen().await?) {
            // A listener that has received less than this reads the rest itself.
            (ReadTo::Unknown, Some(newest)) => {
                FeedUpdate::Happened { after: newest, batch: Arc::new(EventBatch::empty(newest)) }
            }
            (_, Some(newest)) => FeedUpdate::Reset(newest),
            (ReadTo::NoQueue, None) => return Ok(Found::Nothing),
            (_, None) => FeedUpdate::Lost,
        };
        self.send(update);
        Ok(Found::Nothing)
    }

    fn send(&mut self, update: FeedUpdate) {
        self.at = match &update {
            FeedUpdate::Happened { batch, .. } => ReadTo::After(batch.end),
            FeedUpdate::Reset(newest) => ReadTo::After(*newest),
            FeedUpdate::Lost => ReadTo::NoQueue,
        };
        // All listeners may have gone.
        let _ = self.tail.send(update);
    }
}
