//! The subscription to notifications: one connection for all that a process waits for.

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
    Bell, MessageId, QueueName, Redis, Retry,
    agenda::Agenda,
    bell::Ring,
    janitor::LEEWAY,
    keys::{self, EVENTS_OF_ALL, FINISHED_CHANNEL, Keys, WORKERS_CHANNEL, suffix},
    protected_mode,
};

/// How often the subscribed connection is asked whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How many bells are kept that nobody listens to.
const MAX_BELLS: usize = 10_000;
/// Stands for all messages of a queue on the channel of those that have finished: the queue was deleted.
const EVERY_MESSAGE: &str = "*";
/// How many channels one SUBSCRIBE names.
const CHANNELS_AT_ONCE: usize = 500;

/// The one subscribed connection of a process, whatever the number of queues and of clients that wait.
///
/// A notification only says *look*. After each new subscription everybody looks once, so what was said in between is
/// not missed; a slow poll covers the rest.
#[derive(Clone)]
pub struct Subscriber {
    shared: Arc<Shared>,
}

struct Shared {
    redis: Redis,
    bells: Mutex<HashMap<String, Arc<Bell>>>,
    not_yet_subscribed: Mutex<Vec<String>>,
    new_channels: Notify,
    waiters: Mutex<HashMap<(QueueName, MessageId), Waiters>>,
    connected: watch::Sender<bool>,
    /// The starts of names: queues whose names begin so are heard of, whether anybody asks for their bells or not.
    starts: Vec<String>,
    /// What it listens to beside the queues.
    channels: Vec<&'static str>,
    newcomers: Mutex<HashSet<QueueName>>,
    newcomer: Notify,
    /// What of all queues is to be looked at when; for the one that has a janitor.
    agenda: Option<Arc<Agenda>>,
}

struct Waiters {
    count: usize,
    finished: Arc<Notify>,
}

impl Shared {
    /// Whether a queue is heard of by the start of its name.
    fn is_heard_of(&self, queue: &QueueName) -> bool {
        self.starts.iter().any(|start| queue.as_str().starts_with(start))
    }

    /// Whether what is said on a channel comes without subscribing to it. Events do only where all queues are heard of.
    fn hears(&self, channel: &str) -> bool {
        let by_its_start = || Keys::queue_of(channel).is_some_and(|queue| self.is_heard_of(&queue));
        self.agenda.is_some() || channel.ends_with(suffix::WAKE) && by_its_start()
    }

    fn note_newcomer(&self, queue: QueueName) {
        self.newcomers.lock().insert(queue);
        self.newcomer.notify_one();
    }
}

impl Subscriber {
    /// Prepares the connection; [`run`](Self::run) keeps it. It listens to the queues whose bells are asked for.
    pub fn new(redis: Redis) -> Self {
        Self::listening(redis, Vec::new(), vec![FINISHED_CHANNEL], None)
    }

    /// As [`new`](Self::new), but it listens to all queues, whether anybody asks for their bells or not: for a process
    /// with a [`Janitor`](crate::Janitor).
    pub fn of_all_queues(redis: Redis) -> Self {
        Self::listening(redis, vec![String::new()], vec![FINISHED_CHANNEL], Some(Arc::default()))
    }

    /// For a worker: as [`new`](Self::new), but it is counted among [the workers](crate::Queues::workers), and hears also of
    /// every queue whose name begins with one of `starts`, by one
    /// subscription for each start: [`newcomer`](Self::newcomer) names those that nobody has asked for.
    pub fn of_starts(redis: Redis, starts: impl IntoIterator<Item = String>) -> Self {
        let mut starts: Vec<String> = starts.into_iter().collect();
        // Sorted, a start comes before all that begin with it, and these say nothing more.
        starts.sort_unstable();
        starts.dedup_by(|later, kept| later.starts_with(kept.as_str()));
        Self::listening(redis, starts, vec![FINISHED_CHANNEL, WORKERS_CHANNEL], None)
    }

    pub(crate) fn agenda(&self) -> Option<&Arc<Agenda>> {
        self.shared.agenda.as_ref()
    }

    fn listening(redis: Redis, starts: Vec<String>, channels: Vec<&'static str>, agenda: Option<Arc<Agenda>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                redis,
                bells: Mutex::default(),
                not_yet_subscribed: Mutex::default(),
                new_channels: Notify::new(),
                waiters: Mutex::default(),
                connected: watch::Sender::new(false),
                starts,
                channels,
                newcomers: Mutex::default(),
                newcomer: Notify::new(),
                agenda,
            }),
        }
    }

    /// The bell that rings when a consumer of `queue` should look.
    pub fn bell(&self, queue: &QueueName) -> Arc<Bell> {
        self.bell_on(Keys::of(queue).key(suffix::WAKE))
    }

    /// The bell that rings when there are more events of `queue`.
    pub(crate) fn bell_of_events(&self, queue: &QueueName) -> Arc<Bell> {
        self.bell_on(Keys::of(queue).key(suffix::EVENTS))
    }

    fn bell_on(&self, channel: String) -> Arc<Bell> {
        let mut bells = self.shared.bells.lock();
        // Strangers may name any number of queues. Where each is heard of anyway, one that nobody waits at is forgotten.
        if self.shared.agenda.is_some() && bells.len() >= MAX_BELLS {
            bells.retain(|_, bell| Arc::strong_count(bell) > 1);
        }
        let bell = bells.entry(channel.clone()).or_insert_with(|| {
            if !self.shared.hears(&channel) {
                self.shared.not_yet_subscribed.lock().push(channel);
                self.shared.new_channels.notify_one();
            }
            Arc::new(Bell::new())
        });
        Arc::clone(bell)
    }

    /// Waits until a queue whose name begins as was asked for rings, and nobody has asked for its bell. Safe to give up
    /// half-way; one waits at a time.
    pub async fn newcomer(&self) -> QueueName {
        loop {
            let newcomer = {
                let mut newcomers = self.shared.newcomers.lock();
                let next = newcomers.iter().next().cloned();
                next.and_then(|next| newcomers.take(&next))
            };
            if let Some(newcomer) = newcomer {
                return newcomer;
            }
            self.shared.newcomer.notified().await;
        }
    }

    /// Says that there are these queues: those that it would hear of and whose bells nobody has asked for are newcomers.
    pub fn introduce(&self, queues: impl IntoIterator<Item = QueueName>) {
        let bells = self.shared.bells.lock();
        let is_new = |queue: &QueueName| !bells.contains_key(&Keys::of(queue).key(suffix::WAKE));
        let mut newcomers = self.shared.newcomers.lock();
        newcomers.extend(queues.into_iter().filter(|queue| self.shared.is_heard_of(queue) && is_new(queue)));
        self.shared.newcomer.notify_one();
    }

    /// Forgets the bell of a queue that is heard of by the start of its name. If it has rung since its listener looked
    /// last, or rings again, the queue is a newcomer.
    pub fn forget(&self, queue: &QueueName) {
        if !self.shared.is_heard_of(queue) {
            return;
        }
        let mut bells = self.shared.bells.lock();
        let bell = bells.remove(&Keys::of(queue).key(suffix::WAKE));
        if bell.is_some_and(|bell| bell.has_rung()) {
            self.shared.note_newcomer(queue.clone());
        }
    }

    /// Whether the connection is there now.
    pub fn is_connected(&self) -> bool {
        *self.shared.connected.borrow()
    }

    /// Tells each time that the connection breaks or is there again: then another server may stand behind it.
    pub fn connection(&self) -> watch::Receiver<bool> {
        self.shared.connected.subscribe()
    }

    /// Registers interest in the end of a message. Register first, then ask Redis, then wait.
    pub(crate) fn finishing(&self, queue: &QueueName, id: &MessageId) -> Finishing {
        let key = (queue.clone(), id.clone());
        let mut waiters = self.shared.waiters.lock();
        let entry =
            waiters.entry(key.clone()).or_insert_with(|| Waiters { count: 0, finished: Arc::new(Notify::new()) });
        entry.count += 1;
        Finishing { finished: Arc::clone(&entry.finished), key, subscriber: self.clone() }
    }

    /// Keeps the connection, reconnecting whenever it breaks, until this is dropped.
    pub async fn keep(&self) {
        self.run(CancellationToken::new()).await;
    }

    /// Keeps the connection until `shutdown`, reconnecting whenever it breaks.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut retry = Retry::new();
        let mut told = false;
        loop {
            let ended = tokio::select! {
                ended = self.subscribe_and_listen(&mut retry, &mut told) => ended,
                () = shutdown.cancelled() => return,
            };
            self.shared.connected.send_replace(false);
            // Once for each outage, not for each try.
            if !told {
                warn!(reason = %ended, "the subscription to Redis broke, reconnecting");
                told = true;
            }
            tokio::select! {
                () = sleep(retry.pause()) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Answers why it ended.
    async fn subscribe_and_listen(&self, retry: &mut Retry, told: &mut bool) -> String {
        let limit = self.shared.redis.time_limit();
        let (mut sink, mut messages) = match timeout(limit, self.shared.redis.client().get_async_pubsub()).await {
            Ok(Ok(connection)) => connection.split(),
            Ok(Err(error)) => return protected_mode::explain(error, self.shared.redis.client()).await.to_string(),
            Err(_) => return "no connection in time".into(),
        };
        self.shared.not_yet_subscribed.lock().clear();
        let mut channels: Vec<String> = self.shared.channels.iter().map(|channel| (*channel).to_owned()).collect();
        let mut patterns: Vec<String> = self.shared.starts.iter().map(|start| keys::wake_of(start)).collect();
        if self.shared.agenda.is_some() {
            patterns.push(EVENTS_OF_ALL.to_owned());
        }
        for some in patterns.chunks(CHANNELS_AT_ONCE) {
            if let Err(reason) = within(limit, sink.psubscribe(some)).await {
                return reason;
            }
        }
        channels.extend(self.shared.bells.lock().keys().filter(|channel| !self.shared.hears(channel)).cloned());
        if let Err(reason) = subscribe(&mut sink, &channels, limit).await {
            return reason;
        }
        retry.reset();
        self.shared.connected.send_replace(true);
        if std::mem::take(told) {
            info!("the subscription to Redis is back");
        }
        self.wake_everybody();
        self.listen(&mut sink, &mut messages, limit).await
    }

    async fn listen(&self, sink: &mut PubSubSink, messages: &mut PubSubStream, limit: Duration) -> String {
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => self.deliver(&message),
                    None => return "the connection was closed".into(),
                },
                _ = pings.tick() => if let Err(reason) = within(limit, sink.ping::<redis::Value>()).await {
                    return reason;
                },
                () = self.shared.new_channels.notified() => {
                    let channels = std::mem::take(&mut *self.shared.not_yet_subscribed.lock());
                    if let Err(reason) = subscribe(sink, &channels, limit).await {
                        return reason;
                    }
                    let bells = self.shared.bells.lock();
                    channels.iter().filter_map(|channel| bells.get(channel)).for_each(|bell| bell.ring());
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
            let ring = Ring::parse(&payload);
            let bells = self.shared.bells.lock();
            if let Some(bell) = bells.get(channel) {
                bell.take(ring);
            } else if let (None, Some(queue)) = (&self.shared.agenda, Keys::queue_of(channel)) {
                self.shared.note_newcomer(queue);
            }
            drop(bells);
            if let (Some(agenda), Ring::In(pause)) = (&self.shared.agenda, ring)
                && channel.ends_with(suffix::WAKE)
                && let Some(queue) = Keys::queue_of(channel)
            {
                agenda.note(queue, pause.saturating_add(LEEWAY));
            }
        }
    }

    /// For one message of a queue, or for all of a queue that was deleted.
    fn end_waits(&self, payload: &str) {
        let Some((queue, id)) = payload.split_once('\t') else { return };
        let Ok(queue) = queue.parse::<QueueName>() else { return };
        let mut waiters = self.shared.waiters.lock();
        if id == EVERY_MESSAGE {
            for (_, ended) in waiters.extract_if(|(of, _), _| *of == queue) {
                ended.finished.notify_waiters();
            }
        } else if let Some(ended) = id.parse().ok().and_then(|id| waiters.remove(&(queue, id))) {
            ended.finished.notify_waiters();
        }
    }

    fn wake_everybody(&self) {
        self.shared.bells.lock().values().for_each(|bell| bell.ring());
        self.shared.waiters.lock().values().for_each(|waiters| waiters.finished.notify_waiters());
    }
}

async fn subscribe(sink: &mut PubSubSink, channels: &[String], limit: Duration) -> Result<(), String> {
    for some in channels.chunks(CHANNELS_AT_ONCE) {
        within(limit, sink.subscribe(some)).await?;
    }
    Ok(())
}

async fn within<T>(limit: Duration, answer: impl Future<Output = redis::RedisResult<T>>) -> Result<T, String> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| crate::Error::from(error).to_string()),
        Err(_) => Err("no answer in time".into()),
    }
}

/// Interest in the end of one message; given up when dropped.
pub(crate) struct Finishing {
    pub(crate) finished: Arc<Notify>,
    key: (QueueName, MessageId),
    subscriber: Subscriber,
}

impl Drop for Finishing {
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
