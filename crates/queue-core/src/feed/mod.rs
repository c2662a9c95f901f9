//! The feed of events: the event listeners of this process. All listeners of one queue share a reader of its log.

mod listener;
mod reader;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use listener::EventListener;

pub use crate::events::EventId;
use crate::{
    error::Result,
    feed::reader::{EventReader, FeedState, FeedUpdate},
    queue::Queue,
    wakeup::Subscriber,
};

/// The number of batches by which a listener may be behind before it is disconnected. Batches stay in memory until the last
/// listener has received them.
const MAX_BATCHES_BEHIND: usize = 64;
/// The maximum number of listeners that read missed events from logs concurrently. While `MAX_CONCURRENT_READS` listeners read missed
/// events, other listeners wait, so that reads of missed events do not delay posts.
const MAX_CONCURRENT_READS: usize = 4;

/// The feed of the events of all queues: any number of listeners, with one reader of the log for each queue.
#[derive(Clone)]
pub struct EventFeed {
    shared: Arc<FeedState>,
}

impl EventFeed {
    /// Makes a feed without listeners. `subscriber` wakes the readers; the caller must run `subscriber`. `shutdown` ends all
    /// listeners.
    pub fn new(subscriber: Subscriber, shutdown: CancellationToken) -> Self {
        let readers = TaskTracker::new();
        readers.close();
        let read_limit = Arc::new(Semaphore::new(MAX_CONCURRENT_READS));
        Self { shared: Arc::new(FeedState { subscriber, readers, shutdown, senders: Mutex::default(), read_limit }) }
    }

    /// Listens to the events of a queue from now on, or after the event `last`; `None` if the queue does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn listen(&self, queue: &Arc<Queue>, last: Option<EventId>) -> Result<Option<EventListener>> {
        // The queue is checked before a reader starts, so that no reader starts for a queue that does not exist.
        if queue.listen().await?.is_none() {
            return Ok(None);
        }
        let updates = self.subscribe(queue);
        // The newest event is read after subscribing, so that no event is missed in between.
        let Some(newest) = queue.listen().await? else { return Ok(None) };
        let (read_limit, shutdown) = (Arc::clone(&self.shared.read_limit), self.shared.shutdown.child_token());
        Ok(Some(EventListener::new(Arc::clone(queue), updates, newest, last, read_limit, shutdown)))
    }

    /// Waits until all readers have ended, which happens soon after the shutdown.
    pub async fn wait_until_stopped(&self) {
        self.shared.readers.wait().await;
    }

    fn subscribe(&self, queue: &Arc<Queue>) -> broadcast::Receiver<FeedUpdate> {
        let mut senders = self.shared.senders.lock();
        if let Some(sender) = senders.get(queue.name()) {
            return sender.subscribe();
        }
        let (sender, updates) = broadcast::channel(MAX_BATCHES_BEHIND);
        senders.insert(queue.name().clone(), sender.clone());
        let reader = EventReader::new(Arc::clone(&self.shared), Arc::clone(queue), sender);
        self.shared.readers.spawn(reader.run());
        updates
    }
}
