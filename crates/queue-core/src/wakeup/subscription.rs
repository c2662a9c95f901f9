//! The connection of a subscriber: subscribes, delivers notifications, and connects again when the connection breaks.

use std::time::Duration;

use deadpool_redis::redis::{
    self, Msg,
    aio::{PubSubSink, PubSubStream},
};
use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    redis::{
        Keys, Node, Retry, closed_by_server,
        keys::{self, EVENT_CHANNELS_PATTERN, FINISHED_CHANNEL, WORKERS_CHANNEL},
        suffix,
    },
    wakeup::{
        notifier::Wake,
        schedule_changes::OutdatedSchedules,
        subscriber::{MAINTENANCE_DELAY, Subscriber},
    },
};

/// The interval at which a PING checks the subscribed connection.
const PING_EVERY: Duration = Duration::from_secs(1);
/// The maximum number of channels in one SUBSCRIBE, and of patterns in one PSUBSCRIBE.
const MAX_CHANNELS_PER_COMMAND: usize = 500;

impl Subscriber {
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
                    // If no server of a cluster reaches the rest of the cluster, the subscription stays at the server to which it
                    // is connected.
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
            self.shared.finish_waits.end(&payload);
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

    fn wake_all(&self) {
        self.shared.notifiers.lock().values().for_each(|notifier| notifier.wake());
        self.shared.finish_waits.wake_all();
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
