use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use deadpool_redis::redis::{
    self, Msg,
    aio::{PubSubSink, PubSubStream},
};
use futures_util::StreamExt;
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
    keys::{EVENTS_OF_ALL, FINISHED_CHANNEL, Keys, WAKE_OF_ALL, suffix},
};

/// How often the subscribed connection is asked whether it still lives.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How many bells are kept that nobody listens to.
const MAX_BELLS: usize = 10_000;
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
    /// What of all queues is to be looked at when; for the one that listens to them all.
    agenda: Option<Arc<Agenda>>,
}

struct Waiters {
    count: usize,
    finished: Arc<Notify>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is done under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscriber {
    /// Prepares the connection; [`run`](Self::run) keeps it. It listens to the queues whose bells are asked for.
    pub fn new(redis: Redis) -> Self {
        Self::listening(redis, None)
    }

    /// As [`new`](Self::new), but it listens to all queues, whether anybody asks for their bells or not: for a process
    /// with a [`Janitor`](crate::Janitor).
    pub fn of_all_queues(redis: Redis) -> Self {
        Self::listening(redis, Some(Arc::default()))
    }

    pub(crate) fn agenda(&self) -> Option<&Arc<Agenda>> {
        self.shared.agenda.as_ref()
    }

    fn listening(redis: Redis, agenda: Option<Arc<Agenda>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                redis,
                bells: Mutex::default(),
                not_yet_subscribed: Mutex::default(),
                new_channels: Notify::new(),
                waiters: Mutex::default(),
                connected: watch::Sender::new(false),
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
        let mut bells = lock(&self.shared.bells);
        // Strangers may name any number of queues. Where each is heard of anyway, one that nobody waits at is forgotten.
        if self.shared.agenda.is_some() && bells.len() >= MAX_BELLS {
            bells.retain(|_, bell| Arc::strong_count(bell) > 1);
        }
        let bell = bells.entry(channel.clone()).or_insert_with(|| {
            if self.shared.agenda.is_none() {
                lock(&self.shared.not_yet_subscribed).push(channel);
                self.shared.new_channels.notify_one();
            }
            Arc::new(Bell::new())
        });
        Arc::clone(bell)
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
        let mut waiters = lock(&self.shared.waiters);
        let entry =
            waiters.entry(key.clone()).or_insert_with(|| Waiters { count: 0, finished: Arc::new(Notify::new()) });
        entry.count += 1;
        Finishing { finished: Arc::clone(&entry.finished), key, subscriber: self.clone() }
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
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "no connection in time".into(),
        };
        lock(&self.shared.not_yet_subscribed).clear();
        let mut channels = vec![FINISHED_CHANNEL.to_owned()];
        if self.shared.agenda.is_some() {
            if let Err(reason) = within(limit, sink.psubscribe(&[WAKE_OF_ALL, EVENTS_OF_ALL])).await {
                return reason;
            }
        } else {
            channels.extend(lock(&self.shared.bells).keys().cloned());
        }
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
                    let channels = std::mem::take(&mut *lock(&self.shared.not_yet_subscribed));
                    if let Err(reason) = subscribe(sink, &channels, limit).await {
                        return reason;
                    }
                    let bells = lock(&self.shared.bells);
                    channels.iter().filter_map(|channel| bells.get(channel)).for_each(|bell| bell.ring());
                }
            }
        }
    }

    fn deliver(&self, message: &Msg) {
        let channel = message.get_channel_name();
        let payload = String::from_utf8_lossy(message.get_payload_bytes());
        if channel == FINISHED_CHANNEL {
            let key = payload.split_once('\t').and_then(|(queue, id)| Some((queue.parse().ok()?, id.parse().ok()?)));
            if let Some(waiters) = key.and_then(|key| lock(&self.shared.waiters).remove(&key)) {
                waiters.finished.notify_waiters();
            }
        } else {
            let ring = Ring::parse(&payload);
            if let Some(bell) = lock(&self.shared.bells).get(channel) {
                bell.take(ring);
            }
            if let (Some(agenda), Ring::In(pause)) = (&self.shared.agenda, ring)
                && channel.ends_with(suffix::WAKE)
                && let Some(queue) = Keys::queue_of(channel)
            {
                agenda.note(queue, pause.saturating_add(LEEWAY));
            }
        }
    }

    fn wake_everybody(&self) {
        lock(&self.shared.bells).values().for_each(|bell| bell.ring());
        lock(&self.shared.waiters).values().for_each(|waiters| waiters.finished.notify_waiters());
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
        Ok(answer) => answer.map_err(|error| error.to_string()),
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
        let mut waiters = lock(&self.subscriber.shared.waiters);
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
