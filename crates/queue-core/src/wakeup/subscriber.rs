//! The subscription to notifications: one connection for all queues and clients of a process.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use deadpool_redis::redis::{
    self, Msg,
    aio::{PubSubSink, PubSubStream},
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    message::MessageId,
    names::QueueName,
    redis::{
        Keys, Node, Redis, Retry, closed_by_server,
        keys::{self, EVENT_CHANNELS_PATTERN, FINISHED_CHANNEL, WORKERS_CHANNEL},
        suffix,
    },
    wakeup::{
        notifier::{Wake, WakeNotifier},
        schedule_changes::{OutdatedSchedules, ScheduleChanges},
        timers::WakeTimers,
    },
};

/// How long after the notified time maintenance checks a queue. Consumers do the due work at the notified time, so usually no work
/// is left for maintenance.
pub(crate) const MAINTENANCE_DELAY: Duration = Duration::from_millis(200);
/// The interval at which a PING checks the subscribed connection.
const PING_EVERY: Duration = Duration::from_secs(1);
/// When a process has this number of notifiers, the unused notifiers are removed.
const MAX_NOTIFIERS: usize = 10_000;
/// The id that stands for all messages of a deleted queue on the channel of finished messages.
const ALL_MESSAGES_ID: &str = "*";
/// The maximum number of channels in one SUBSCRIBE, and of patterns in one PSUBSCRIBE.
const MAX_CHANNELS_PER_COMMAND: usize = 500;

/// The one subscribed connection of a process, for any number of queues and waiting clients.
///
/// A notification contains no message; it only makes a consumer check the queue. After each new subscription every notifier
/// wakes its consumer once, because notifications may have been lost before. Consumers also check their queues at long intervals,
/// because a notification may be lost for other reasons.
#[derive(Clone)]
pub struct Subscriber {
    shared: Arc<SubscriberState>,
}

struct SubscriberState {
    redis: Redis,
    notifiers: Mutex<HashMap<String, Arc<WakeNotifier>>>,
    to_subscribe: Mutex<Vec<String>>,
    new_channels: Notify,
    waiters: Mutex<HashMap<(QueueName, MessageId), Waiters>>,
    connected: watch::Sender<bool>,
    /// Queues whose names begin with one of these prefixes are subscribed to, even before their notifiers are requested.
    prefixes: Vec<String>,
    /// The channels that belong to no queue.
    channels: Vec<&'static str>,
    new_queues: Mutex<HashSet<QueueName>>,
    new_queue: Notify,
    /// The timers that say when maintenance must check each queue; `None` in a process without maintenance.
    timers: Option<Arc<WakeTimers>>,
    /// The schedules that were changed since they were read; `None` unless all queues are subscribed to.
    schedule_changes: Option<Arc<ScheduleChanges>>,
}

/// The clients of this process that wait for the end of one message.
struct Waiters {
    count: usize,
    finished: Arc<Notify>,
}

impl SubscriberState {
    /// Whether the queue's name begins with a subscribed prefix.
    fn matches_prefix(&self, queue: &QueueName) -> bool {
        self.prefixes.iter().any(|prefix| queue.as_str().starts_with(prefix))
    }

    /// Whether a subscription by pattern covers the channel. Channels of events are covered only if all queues are subscribed to.
    fn is_covered_by_pattern(&self, channel: &str) -> bool {
        let matches_by_prefix = || Keys::queue_of(channel).is_some_and(|queue| self.matches_prefix(&queue));
        self.timers.is_some() || channel.ends_with(suffix::WAKE) && matches_by_prefix()
    }

    fn add_new_queue(&self, queue: QueueName) {
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
    /// [`new_queue`](Self::new_queue) returns those of these queues whose notifiers were not requested.
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
                waiters: Mutex::default(),
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
        self.notifier_on(Keys::of(queue).key(suffix::WAKE))
    }

    /// Returns the notifier that wakes a reader when `queue` has more events.
    pub(crate) fn notifier_of_events(&self, queue: &QueueName) -> Arc<WakeNotifier> {
        self.notifier_on(Keys::of(queue).key(suffix::EVENTS))
    }

    fn notifier_on(&self, channel: String) -> Arc<WakeNotifier> {
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

    /// Announces existing queues: [`new_queue`](Self::new_queue) then returns those of the queues that are subscribed to by prefix
    /// and whose notifiers were not requested.
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

    /// Registers a wait for the end of a message. The caller reads the message after registering and before waiting, so that it does
    /// not miss the end.
    pub(crate) fn register_wait(&self, queue: &QueueName, id: &MessageId) -> FinishWait {
        let key = (queue.clone(), id.clone());
        let mut waiters = self.shared.waiters.lock();
        let entry =
            waiters.entry(key.clone()).or_insert_with(|| Waiters { count: 0, finished: Arc::new(Notify::new()) });
        entry.count += 1;
        FinishWait { finished: Arc::clone(&entry.finished), key, subscriber: self.clone() }
    }

    /// Keeps the connection open, reconnecting whenever it breaks, until the future is dropped.
    pub async fn keep_connected(&self) {
        self.run(CancellationToken::new()).await;
    }

    /// Keeps the connection open until `shutdown`, reconnecting whenever it breaks.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut retry = Retry::new();
        let mut is_logged = false;
        loop {
            let listen_end = tokio::select! {
                listen_end = self.subscribe_and_listen(&mut retry, &mut is_logged) => listen_end,
                () = shutdown.cancelled() => return,
            };
            self.shared.connected.send_replace(false);
            // The log gets one line for each outage, not for each attempt to reconnect.
            if !is_logged {
                warn!(reason = %listen_end, "the subscription to Redis broke, reconnecting");
                is_logged = true;
            }
            tokio::select! {
                () = sleep(retry.pause()) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Subscribes, delivers notifications until the subscription ends, and returns the reason why it ended.
    async fn subscribe_and_listen(&self, retry: &mut Retry, is_logged: &mut bool) -> String {
        let topology = self.shared.redis.topology();
        let node = match topology.subscription_node().await {
            Ok(node) => node,
            Err(error) => return error.to_string(),
        };
        let reason = tokio::select! {
            reason = self.subscribe_at(&node, retry, is_logged) => reason,
            // A server that hangs accepts connections, and never answers.
            () = node.retire_token().cancelled() => "the server is no longer a primary".into(),
        };
        topology.note_failure();
        reason
    }

    /// Subscribes at one server, delivers notifications until the subscription ends, and returns the reason why it ended.
    async fn subscribe_at(&self, node: &Node, retry: &mut Retry, is_logged: &mut bool) -> String {
        let limit = self.shared.redis.time_limit();
        let open_result = timeout(limit, node.endpoint().open_for_subscriptions()).await;
        let (mut sink, mut messages) = match open_result {
            Ok(Ok(open_result)) => open_result,
            Ok(Err(error)) => return closed_by_server::explain_connect_error(error, node.endpoint()).await.to_string(),
            Err(_) => return "no connection in time".into(),
        };
        self.shared.to_subscribe.lock().clear();
        let mut channels: Vec<String> = self.shared.channels.iter().map(|channel| (*channel).to_owned()).collect();
        let mut patterns: Vec<String> =
            self.shared.prefixes.iter().map(|prefix| keys::wake_channels_pattern(prefix)).collect();
        if self.shared.timers.is_some() {
            patterns.push(EVENT_CHANNELS_PATTERN.to_owned());
        }
        for chunk in patterns.chunks(MAX_CHANNELS_PER_COMMAND) {
            if let Err(reason) = with_time_limit(limit, sink.psubscribe(chunk)).await {
                return reason;
            }
        }
        channels.extend(
            self.shared.notifiers.lock().keys().filter(|channel| !self.shared.is_covered_by_pattern(channel)).cloned(),
        );
        if let Err(reason) = subscribe_to_channels(&mut sink, &channels, limit).await {
            return reason;
        }
        retry.reset();
        self.shared.connected.send_replace(true);
        if std::mem::take(is_logged) {
            info!("the subscription to Redis is back");
        }
        self.wake_all();
        self.listen(&mut sink, &mut messages, node).await
    }

    async fn listen(&self, sink: &mut PubSubSink, messages: &mut PubSubStream, node: &Node) -> String {
        let limit = self.shared.redis.time_limit();
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.deliver(&message),
                    None => return "the connection was closed".into(),
                },
                _ = pings.tick() => {
                    if let Err(reason) = with_time_limit(limit, sink.ping::<redis::Value>()).await {
                        return reason;
                    }
                    // If no server reaches the rest of its cluster, the subscription stays at this server.
                    if self.shared.redis.topology().has_better_subscription_node(node) {
                        return "the server does not reach the rest of its cluster".into();
                    }
                },
                () = self.shared.new_channels.notified() => {
                    let channels = std::mem::take(&mut *self.shared.to_subscribe.lock());
                    if let Err(reason) = subscribe_to_channels(sink, &channels, limit).await {
                        return reason;
                    }
                    let notifiers = self.shared.notifiers.lock();
                    channels.iter().filter_map(|channel| notifiers.get(channel)).for_each(|notifier| notifier.wake());
                }
            }
        }
    }

    fn deliver(&self, message: &Msg) {
        let channel = message.get_channel_name();
        let payload = String::from_utf8_lossy(message.get_payload_bytes());
        if channel == WORKERS_CHANNEL {
            return;
        }
        if channel == FINISHED_CHANNEL {
            self.end_waits(&payload);
        } else {
            let wake = Wake::parse(&payload);
            if let Wake::Schedule(name) = wake {
                if let (Some(changes), Some(queue)) = (&self.shared.schedule_changes, Keys::queue_of(channel)) {
                    let changed_schedules =
                        name.parse().map_or(OutdatedSchedules::All, |name| OutdatedSchedules::Some([name].into()));
                    changes.add(queue, changed_schedules);
                }
                return;
            }
            let notifiers = self.shared.notifiers.lock();
            if let Some(notifier) = notifiers.get(channel) {
                notifier.receive(wake);
            } else if let (None, Some(queue)) = (&self.shared.timers, Keys::queue_of(channel)) {
                self.shared.add_new_queue(queue);
            }
            drop(notifiers);
            if let (Some(timers), Wake::In(pause)) = (&self.shared.timers, wake)
                && channel.ends_with(suffix::WAKE)
                && let Some(queue) = Keys::queue_of(channel)
            {
                timers.set(queue, pause.saturating_add(MAINTENANCE_DELAY));
            }
        }
    }

    /// Ends the waits for one message, or for all messages of a deleted queue.
    fn end_waits(&self, payload: &str) {
        let Some((queue, id)) = payload.split_once('\t') else { return };
        let Ok(queue) = queue.parse::<QueueName>() else { return };
        let mut waiters = self.shared.waiters.lock();
        if id == ALL_MESSAGES_ID {
            for (_, ended) in waiters.extract_if(|(of, _), _| *of == queue) {
                ended.finished.notify_waiters();
            }
        } else if let Some(ended) = id.parse().ok().and_then(|id| waiters.remove(&(queue, id))) {
            ended.finished.notify_waiters();
        }
    }

    fn wake_all(&self) {
        self.shared.notifiers.lock().values().for_each(|notifier| notifier.wake());
        self.shared.waiters.lock().values().for_each(|waiters| waiters.finished.notify_waiters());
    }
}

async fn subscribe_to_channels(sink: &mut PubSubSink, channels: &[String], limit: Duration) -> Result<(), String> {
    for chunk in channels.chunks(MAX_CHANNELS_PER_COMMAND) {
        with_time_limit(limit, sink.subscribe(chunk)).await?;
    }
    Ok(())
}

async fn with_time_limit<T>(limit: Duration, answer: impl Future<Output = redis::RedisResult<T>>) -> Result<T, String> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| crate::Error::from(error).to_string()),
        Err(_) => Err("no answer in time".into()),
    }
}

/// A registered wait for the end of one message. Dropping a `FinishWait` ends the wait.
pub(crate) struct FinishWait {
    pub(crate) finished: Arc<Notify>,
    key: (QueueName, MessageId),
    subscriber: Subscriber,
}

impl Drop for FinishWait {
    fn drop(&mut self) {
        let mut waiters = self.subscriber.shared.waiters.lock();
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
