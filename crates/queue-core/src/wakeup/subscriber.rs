//! The notifications that a process receives: which queues they concern, and who is woken by them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{
    message::MessageId,
    names::QueueName,
    redis::{
        Keys, Redis,
        keys::{FINISHED_CHANNEL, WORKERS_CHANNEL},
        suffix,
    },
    wakeup::{
        finish_waits::{FinishWait, FinishWaits},
        notifier::WakeNotifier,
        schedule_changes::ScheduleChanges,
        timers::WakeTimers,
    },
};

/// How long maintenance waits after the instant at which work of a queue is due, as a notification says. Consumers do the due work
/// at that instant, so usually no work is left for maintenance.
pub(crate) const MAINTENANCE_DELAY: Duration = Duration::from_millis(200);
/// When a process has this number of notifiers, the unused notifiers are removed.
const MAX_NOTIFIERS: usize = 10_000;
/// The one subscribed connection of a process, for any number of queues and waiting clients.
///
/// A notification contains no message; it only makes a consumer check the queue. After each new subscription every notifier wakes
/// its consumer once, because notifications may have been lost before. Consumers also check their queues at long intervals, because
/// a notification may be lost even while the connection is open.
#[derive(Clone)]
pub struct Subscriber {
    pub(super) shared: Arc<SubscriberState>,
}

pub(super) struct SubscriberState {
    pub(super) redis: Redis,
    pub(super) notifiers: Mutex<HashMap<String, Arc<WakeNotifier>>>,
    pub(super) to_subscribe: Mutex<Vec<String>>,
    pub(super) new_channels: Notify,
    pub(super) finish_waits: Arc<FinishWaits>,
    pub(super) connected: watch::Sender<bool>,
    /// Prefixes of queue names. The process subscribes to all queues whose names begin with one of `prefixes`, even before their
    /// notifiers are requested.
    pub(super) prefixes: Vec<String>,
    /// The channels that belong to no queue.
    pub(super) channels: Vec<&'static str>,
    new_queues: Mutex<HashSet<QueueName>>,
    new_queue: Notify,
    /// The timers that say when maintenance must check each queue; `None` in a process without maintenance.
    pub(super) timers: Option<Arc<WakeTimers>>,
    /// The schedules that were changed since they were read; `None` unless all queues are subscribed to.
    pub(super) schedule_changes: Option<Arc<ScheduleChanges>>,
}

impl SubscriberState {
    /// Whether the queue's name begins with a subscribed prefix.
    fn matches_prefix(&self, queue: &QueueName) -> bool {
        self.prefixes.iter().any(|prefix| queue.as_str().starts_with(prefix))
    }

    /// Whether a subscription by pattern covers the channel, so that no subscription to the channel itself is needed. A channel of
    /// events is covered by a pattern only if this process subscribes to all queues.
    pub(super) fn is_covered_by_pattern(&self, channel: &str) -> bool {
        let matches_by_prefix = || Keys::queue_of(channel).is_some_and(|queue| self.matches_prefix(&queue));
        self.timers.is_some() || channel.ends_with(suffix::WAKE) && matches_by_prefix()
    }

    pub(super) fn add_new_queue(&self, queue: QueueName) {
        self.new_queues.lock().insert(queue);
        self.new_queue.notify_one();
    }
}

impl Subscriber {
    /// Prepares the connection; [`run`](Self::run) opens the connection. The subscriber subscribes to the queues whose notifiers are
    /// requested.
    pub fn new(redis: Redis) -> Self {
        Self::with_channels(redis, Vec::new(), vec![FINISHED_CHANNEL], None)
    }

    /// Like [`new`](Self::new), but subscribes to all queues, for a process with [`Maintenance`](crate::Maintenance).
    pub fn for_all_queues(redis: Redis) -> Self {
        Self::with_channels(redis, vec![String::new()], vec![FINISHED_CHANNEL], Some(Arc::default()))
    }

    /// Like [`new`](Self::new), for a worker: the subscriber counts as one of the [workers](crate::Queues::worker_count), and also
    /// subscribes to every queue whose name begins with one of `prefixes`, by one pattern for each prefix.
    /// [`new_queue`](Self::new_queue) returns each queue with such a name that is woken or announced, and whose
    /// [`notifier`](Self::notifier) was not requested.
    pub fn for_prefixes(redis: Redis, prefixes: impl IntoIterator<Item = String>) -> Self {
        let mut prefixes: Vec<String> = prefixes.into_iter().collect();
        // After sorting, a prefix comes before the longer prefixes that begin with it; the longer prefixes are removed, because
        // the shorter prefix covers their queues.
        prefixes.sort_unstable();
        prefixes.dedup_by(|later, kept| later.starts_with(kept.as_str()));
        Self::with_channels(redis, prefixes, vec![FINISHED_CHANNEL, WORKERS_CHANNEL], None)
    }

    pub(crate) fn timers(&self) -> Option<&Arc<WakeTimers>> {
        self.shared.timers.as_ref()
    }

    pub(crate) fn schedule_changes(&self) -> Option<&Arc<ScheduleChanges>> {
        self.shared.schedule_changes.as_ref()
    }

    fn with_channels(
        redis: Redis,
        prefixes: Vec<String>,
        channels: Vec<&'static str>,
        timers: Option<Arc<WakeTimers>>,
    ) -> Self {
        Self {
            shared: Arc::new(SubscriberState {
                redis,
                notifiers: Mutex::default(),
                to_subscribe: Mutex::default(),
                new_channels: Notify::new(),
                finish_waits: Arc::default(),
                connected: watch::Sender::new(false),
                prefixes,
                channels,
                new_queues: Mutex::default(),
                new_queue: Notify::new(),
                schedule_changes: timers.is_some().then(Arc::default),
                timers,
            }),
        }
    }

    /// Returns the notifier that wakes a consumer when the consumer should check `queue`.
    pub fn notifier(&self, queue: &QueueName) -> Arc<WakeNotifier> {
        self.notifier_on_channel(Keys::of(queue).key(suffix::WAKE))
    }

    /// Returns the notifier that wakes a reader when `queue` has more events.
    pub(crate) fn notifier_of_events(&self, queue: &QueueName) -> Arc<WakeNotifier> {
        self.notifier_on_channel(Keys::of(queue).key(suffix::EVENTS))
    }

    fn notifier_on_channel(&self, channel: String) -> Arc<WakeNotifier> {
        let mut notifiers = self.shared.notifiers.lock();
        // Clients may name any number of queues, so unused notifiers are removed if a pattern subscribes to all queues.
        if self.shared.timers.is_some() && notifiers.len() >= MAX_NOTIFIERS {
            notifiers.retain(|_, notifier| Arc::strong_count(notifier) > 1);
        }
        let notifier = notifiers.entry(channel.clone()).or_insert_with(|| {
            if !self.shared.is_covered_by_pattern(&channel) {
                self.shared.to_subscribe.lock().push(channel);
                self.shared.new_channels.notify_one();
            }
            Arc::new(WakeNotifier::new())
        });
        Arc::clone(notifier)
    }

    /// Waits until a queue that is subscribed to by prefix, and whose notifier was not requested, is woken or announced. Returns
    /// that queue. The future of `new_queue` may be dropped at any time; only one task may wait at a time.
    pub async fn new_queue(&self) -> QueueName {
        loop {
            let next_queue = {
                let mut new_queues = self.shared.new_queues.lock();
                let next_name = new_queues.iter().next().cloned();
                next_name.and_then(|next_name| new_queues.take(&next_name))
            };
            if let Some(queue) = next_queue {
                return queue;
            }
            self.shared.new_queue.notified().await;
        }
    }

    /// Announces existing queues. [`new_queue`](Self::new_queue) then returns each announced queue that is subscribed to by prefix,
    /// and whose [`notifier`](Self::notifier) was not requested.
    pub fn announce_queues(&self, queues: impl IntoIterator<Item = QueueName>) {
        let notifiers = self.shared.notifiers.lock();
        let is_new = |queue: &QueueName| !notifiers.contains_key(&Keys::of(queue).key(suffix::WAKE));
        let mut new_queues = self.shared.new_queues.lock();
        new_queues.extend(queues.into_iter().filter(|queue| self.shared.matches_prefix(queue) && is_new(queue)));
        self.shared.new_queue.notify_one();
    }

    /// Removes the notifier of a queue that is subscribed to by prefix. If a wake-up is pending or arrives later,
    /// [`new_queue`](Self::new_queue) returns the queue.
    pub fn forget_queue(&self, queue: &QueueName) {
        if !self.shared.matches_prefix(queue) {
            return;
        }
        let mut notifiers = self.shared.notifiers.lock();
        let notifier = notifiers.remove(&Keys::of(queue).key(suffix::WAKE));
        if notifier.is_some_and(|notifier| notifier.is_set()) {
            self.shared.add_new_queue(queue.clone());
        }
    }

    /// Whether the connection is open now.
    pub fn is_connected(&self) -> bool {
        *self.shared.connected.borrow()
    }

    /// Returns a receiver that is notified each time that the connection breaks or is restored. A restored connection may lead to another
    /// server.
    pub fn connection(&self) -> watch::Receiver<bool> {
        self.shared.connected.subscribe()
    }

    /// Registers a wait for the end of a message. The caller reads the message after it has registered the wait and before it
    /// waits, so that it does not miss the end of the message.
    pub(crate) fn register_wait(&self, queue: &QueueName, id: &MessageId) -> FinishWait {
        self.shared.finish_waits.register(queue, id)
    }
}
