//! All listeners of this process; those of one queue share a reader.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    error::Result,
    events::{
        batch::FeedUpdate,
        id::EventId,
        listener::EventListener,
        reader::{EventReader, Shared},
    },
    queue::Queue,
    wakeup::Subscriber,
};

/// The number of batches by which a listener may be behind before it is disconnected. Batches stay in memory until the last
/// listener has received them.
const KEPT_BATCHES: usize = 64;
/// The number of listeners that may read the log for themselves at a time. Other listeners wait, so that posts do not have to.
const READING_AT_ONCE: usize = 4;

/// The feed of the events of all queues: any number of listeners, with one reader of the log for each queue.
#[derive(Clone)]
pub struct EventFeed {
    shared: Arc<Shared>,
}

impl EventFeed {
    /// `subscriber` wakes the readers; the caller keeps it running. After `shutdown` all listeners end.
    pub fn new(subscriber: Subscriber, shutdown: CancellationToken) -> Self {
        let readers = TaskTracker::new();
        readers.close();
        let reading = Arc::new(Semaphore::new(READING_AT_ONCE));
        Self { shared: Arc::new(Shared { subscriber, readers, shutdown, tails: Mutex::default(), reading }) }
    }

    /// Listens to what happens in a queue from now on, or from after the event `last`; `None` if there is no such queue.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::OtherLayout`](crate::Error::OtherLayout),
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub async fn listen(&self, queue: &Arc<Queue>, last: Option<EventId>) -> Result<Option<EventListener>> {
        // Once before the reader starts, so that a client starts none for a queue that does not exist.
        if queue.listen().await?.is_none() {
            return Ok(None);
        }
        let news = self.subscribe(queue);
        // Only now, so that nothing comes between.
        let Some(newest) = queue.listen().await? else { return Ok(None) };
        let (reading, shutdown) = (Arc::clone(&self.shared.reading), self.shared.shutdown.child_token());
        Ok(Some(EventListener::new(Arc::clone(queue), news, newest, last, reading, shutdown)))
    }

    /// Waits until all readers have ended, which they do soon after the shutdown.
    pub async fn stopped(&self) {
        self.shared.readers.wait().await;
    }

    fn subscribe(&self, queue: &Arc<Queue>) -> broadcast::Receiver<FeedUpdate> {
        let mut tails = self.shared.tails.lock();
        if let Some(tail) = tails.get(queue.name()) {
            return tail.subscribe();
        }
        let (tail, news) = broadcast::channel(KEPT_BATCHES);
        tails.insert(queue.name().clone(), tail.clone());
        let reader = EventReader::new(Arc::clone(&self.shared), Arc::clone(queue), tail);
        self.shared.readers.spawn(reader.run());
        news
    }
}
