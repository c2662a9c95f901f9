//! The event reader: reads the log of one queue for all its listeners in this process.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

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
    events::{batch::EventBatch, id::EventId},
    names::QueueName,
    queue::Queue,
    redis::Retry,
    wakeup::{Subscriber, WakeNotifier},
};

/// The maximum sleep of a reader without a wake-up, because a notification may be lost.
const MAX_SLEEP: Duration = Duration::from_secs(5);
/// The interval at which a reader whose queue was deleted checks for a new queue of the same name.
const CHECK_DELETED_QUEUE_EVERY: Duration = Duration::from_secs(1);
/// The pause after a read that found events, so that the next read returns several events together.
const PAUSE_BETWEEN_READS: Duration = Duration::from_millis(10);
/// The maximum bytes of the log that one read returns; the read may return one more entry.
const MAX_READ_BYTES: u64 = 64 * 1_024;
/// The number of recent batches that stay in memory for listeners that receive the events of a batch in several steps. A listener that
/// needs events from before these recent batches reads the event log itself.
const RECENT_BATCHES: usize = 8;
/// The interval at which a reader calls `listen` again, so that the event log does not expire.
const RENEW_LOG_EXPIRY_EVERY: Duration = Duration::from_secs(60);

/// An update that an event reader sends to the listeners.
#[derive(Debug, Clone)]
pub(crate) enum FeedUpdate {
    /// The log has new events.
    NewEvents {
        /// The id of the event that comes before these new events.
        after: EventId,
        /// The events that come after the event `after` in the event log.
        batch: Arc<EventBatch>,
    },
    /// Some events were lost; the listeners continue after the event with this id.
    Reset(EventId),
    /// The queue of the reader does not exist any more.
    QueueDeleted,
}

/// The state that the readers and listeners of a process share.
pub(crate) struct FeedState {
    pub(crate) subscriber: Subscriber,
    pub(super) readers: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// The sender of updates for each queue that has a reader.
    pub(crate) senders: Mutex<HashMap<QueueName, broadcast::Sender<FeedUpdate>>>,
    /// Limits how many listeners read missed events concurrently.
    pub(super) read_limit: Arc<Semaphore>,
}

/// Reads the log of one queue for all its listeners in this process, as long as it has listeners.
pub(crate) struct EventReader {
    shared: Arc<FeedState>,
    queue: Arc<Queue>,
    notifier: Arc<WakeNotifier>,
    sender: broadcast::Sender<FeedUpdate>,
    read_to: ReadPosition,
    recent_batches: VecDeque<Arc<EventBatch>>,
}

/// How far a reader has read the log of events.
#[derive(Debug, Clone, Copy)]
enum ReadPosition {
    /// The reader has read nothing of the log of events yet.
    Unknown,
    /// The reader has read the log up to this event.
    After(EventId),
    /// The queue did not exist when the reader last read its log of events.
    NoQueue,
}

/// The result of one read of the log of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadResult {
    /// The read found some events, and the log probably has more.
    FullBatch,
    SomeEvents,
    NoEvents,
}

impl EventReader {
    /// A reader that has read nothing yet, and sends its updates through `sender`.
    pub(crate) fn new(shared: Arc<FeedState>, queue: Arc<Queue>, sender: broadcast::Sender<FeedUpdate>) -> Self {
        let notifier = shared.subscriber.notifier_of_events(queue.name());
        Self {
            shared,
            queue,
            notifier,
            sender,
            read_to: ReadPosition::Unknown,
            recent_batches: VecDeque::with_capacity(RECENT_BATCHES),
        }
    }

    /// Reads the log until the queue has no listener, or until the shutdown.
    pub(crate) async fn run(mut self) {
        let shared_state = Arc::clone(&self.shared);
        tokio::select! {
            () = self.follow_log() => {}
            // The listeners learn of the shutdown when the last sender of the channel is dropped.
            () = shared_state.shutdown.cancelled() => drop(shared_state.senders.lock().remove(self.queue.name())),
        }
    }

    async fn follow_log(&mut self) {
        let mut retry = Retry::new();
        let mut is_logged = false;
        let mut renewal_time = Instant::now() + RENEW_LOG_EXPIRY_EVERY;
        while self.has_listeners() {
            let read_task = async {
                if renewal_time <= Instant::now() {
                    self.queue.listen().await?;
                    renewal_time = Instant::now() + RENEW_LOG_EXPIRY_EVERY;
                }
                self.read().await
            };
            match read_task.await {
                Ok(found) => {
                    retry.reset();
                    if std::mem::take(&mut is_logged) {
                        info!(queue = %self.queue.name(), "events can be read again");
                    }
                    match found {
                        ReadResult::FullBatch => {}
                        ReadResult::SomeEvents => sleep(PAUSE_BETWEEN_READS).await,
                        // A wake-up that arrived during the read ends the wait for the next read at once.
                        ReadResult::NoEvents => self.notifier.woken(self.max_pause()).await,
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_logged, true) {
                        warn!(queue = %self.queue.name(), %error, "events can't be read, trying again");
                    }
                    sleep(retry.pause()).await;
                }
            }
        }
    }

    /// Whether the queue has a listener. The reader of a queue without listeners must end; the next listener starts another reader.
    fn has_listeners(&self) -> bool {
        let mut senders = self.shared.senders.lock();
        let has_listeners = self.sender.receiver_count() > 0;
        if !has_listeners {
            senders.remove(self.queue.name());
        }
        has_listeners
    }

    fn max_pause(&self) -> Duration {
        match self.read_to {
            ReadPosition::NoQueue => CHECK_DELETED_QUEUE_EVERY,
            ReadPosition::Unknown | ReadPosition::After(_) => MAX_SLEEP,
        }
    }

    async fn read(&mut self) -> Result<ReadResult> {
        if let ReadPosition::After(last) = self.read_to
            && let Some(batch) = self.queue.events_after(last, MAX_READ_BYTES).await?
        {
            if batch.end == last {
                return Ok(ReadResult::NoEvents);
            }
            let has_probably_more = batch.end.entry.bytes >= last.entry.bytes + MAX_READ_BYTES / 2;
            let batch = Arc::new(batch);
            self.recent_batches.truncate(RECENT_BATCHES - 1);
            self.recent_batches.push_front(Arc::clone(&batch));
            self.send(FeedUpdate::NewEvents { after: last, batch });
            return Ok(if has_probably_more { ReadResult::FullBatch } else { ReadResult::SomeEvents });
        }
        let update = match (self.read_to, self.queue.listen().await?) {
            // A listener whose last event is earlier than `newest` reads the missing events itself.
            (ReadPosition::Unknown, Some(newest)) => {
                FeedUpdate::NewEvents { after: newest, batch: Arc::new(EventBatch::empty(newest)) }
            }
            (_, Some(newest)) => FeedUpdate::Reset(newest),
            (ReadPosition::NoQueue, None) => return Ok(ReadResult::NoEvents),
            (_, None) => FeedUpdate::QueueDeleted,
        };
        self.send(update);
        Ok(ReadResult::NoEvents)
    }

    fn send(&mut self, update: FeedUpdate) {
        self.read_to = match &update {
            FeedUpdate::NewEvents { batch, .. } => ReadPosition::After(batch.end),
            FeedUpdate::Reset(newest) => ReadPosition::After(*newest),
            FeedUpdate::QueueDeleted => ReadPosition::NoQueue,
        };
        // Sending an update fails only if all listeners have ended.
        let _ = self.sender.send(update);
    }
}
