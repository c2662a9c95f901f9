//! The waits of a process for the ends of messages.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{message::MessageId, names::QueueName};

/// The id that stands for all messages of a deleted queue on the channel of finished messages.
const ALL_MESSAGES_ID: &str = "*";

/// The clients of this process that wait for the ends of messages, by message.
#[derive(Default)]
pub(super) struct FinishWaits(Mutex<HashMap<(QueueName, MessageId), Waiters>>);

/// The clients of this process that wait for the end of one message.
struct Waiters {
    count: usize,
    finished: Arc<Notify>,
}

impl FinishWaits {
    /// Registers a wait for the end of a message.
    pub(super) fn register(self: &Arc<Self>, queue: &QueueName, id: &MessageId) -> FinishWait {
        let key = (queue.clone(), id.clone());
        let mut waiters = self.0.lock();
        let entry =
            waiters.entry(key.clone()).or_insert_with(|| Waiters { count: 0, finished: Arc::new(Notify::new()) });
        entry.count += 1;
        FinishWait { finished: Arc::clone(&entry.finished), key, waits: Arc::clone(self) }
    }

    /// Ends the waits for one message, or for all messages of a deleted queue, as a notification says.
    pub(super) fn end(&self, payload: &str) {
        let Some((queue, id)) = payload.split_once('\t') else { return };
        let Ok(queue) = queue.parse::<QueueName>() else { return };
        let mut waiters = self.0.lock();
        if id == ALL_MESSAGES_ID {
            for (_, ended) in waiters.extract_if(|(of, _), _| *of == queue) {
                ended.finished.notify_waiters();
            }
        } else if let Some(ended) = id.parse().ok().and_then(|id| waiters.remove(&(queue, id))) {
            ended.finished.notify_waiters();
        }
    }

    /// Makes each waiting client read its message again, because notifications may have been lost.
    pub(super) fn wake_all(&self) {
        self.0.lock().values().for_each(|waiters| waiters.finished.notify_waiters());
    }
}

/// A registered wait for the end of one message. Dropping a `FinishWait` ends the wait.
pub(crate) struct FinishWait {
    pub(crate) finished: Arc<Notify>,
    key: (QueueName, MessageId),
    waits: Arc<FinishWaits>,
}

impl Drop for FinishWait {
    fn drop(&mut self) {
        let mut waiters = self.waits.0.lock();
        if let Some(entry) = waiters.get_mut(&self.key)
            && Arc::ptr_eq(&entry.finished, &self.finished)
        {
            entry.count -= 1;
            if entry.count == 0 {
                waiters.remove(&self.key);
            }
        }
    }
}
