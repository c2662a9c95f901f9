//! Tests of queue-core on a real Redis. Each test starts its own Redis server.

#![allow(clippy::unwrap_used)] // A failed unwrap is a failure of the test.

mod answers;
mod audit;
mod bounds;
mod bulk;
mod change;
mod cluster;
mod connections;
mod control;
mod enqueue;
mod events;
mod exclusive;
mod expiry;
mod fencing;
mod groups;
mod held_again;
mod hold;
mod identity;
mod index;
mod lease;
mod limiter;
mod load;
mod lost_answers;
mod outage;
mod plain_path;
mod post;
mod purge;
mod quota;
mod ready;
mod receive;
mod retention;
mod retries;
mod schedules;
mod sentinel;
mod server;
mod terms;
mod ticks;
mod tls;
mod wake;

use std::{sync::Arc, time::Duration};

use drover_tests::RedisServer;
use prometheus_client::{encoding::prometheus_text, registry::Registry};
use queue_core::{
    Action, ConsumerId, Delivery, Enqueued, Failure, LeaseRequest, Leased, Message, MessageRef, Millis, NewMessage,
    Queue, QueueName, Queues, Redis, Settlement, State, settings::SettingsPatch,
};
use serde_json::value::to_raw_value;

/// The time limit of a call, longer than the default because the machine may be busy.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A queue of one test on a Redis of its own.
struct TestQueue {
    redis: RedisServer,
    queues: Queues,
    queue: Arc<Queue>,
    consumer: ConsumerId,
}

impl TestQueue {
    fn new() -> Self {
        Self::with_settings("{}")
    }

    fn with_settings(json: &str) -> Self {
        Self::with_redis_server(RedisServer::start(), json)
    }

    fn with_redis_server(redis: RedisServer, settings: &str) -> Self {
        let queues = connect(&redis, settings);
        Self::with_queues(redis, queues)
    }

    fn with_queues(redis: RedisServer, queues: Queues) -> Self {
        let queue = queues.queue(&queue_name());
        Self { redis, queues, queue, consumer: ConsumerId::issue() }
    }

    async fn post(&self, message: NewMessage) -> Message {
        match self.queue.enqueue(vec![message]).await.unwrap().remove(0) {
            Enqueued::Created(message) => message,
            other => panic!("the message existed already: {other:?}"),
        }
    }

    /// Posts a message for each number, with the number as its data.
    async fn post_numbers(&self, numbers: impl IntoIterator<Item = u64>) {
        self.queue.enqueue(numbers.into_iter().map(numbered_message).collect()).await.unwrap();
    }

    async fn lease(&self, max: usize) -> Leased {
        self.queue.lease(&self.request(max)).await.unwrap()
    }

    async fn lease_one(&self) -> Delivery {
        let mut lease_reply = self.lease(1).await;
        assert_eq!(lease_reply.deliveries.len(), 1, "one message is ready");
        lease_reply.deliveries.remove(0)
    }

    fn request(&self, max: usize) -> LeaseRequest {
        LeaseRequest::new(self.consumer.clone(), max)
    }

    async fn settle(&self, delivery: &Delivery, action: Action) -> Option<State> {
        let settlement = Settlement { lease: delivery.lease.clone(), action };
        self.queue.settle(&[settlement]).await.unwrap().remove(0)
    }

    async fn complete(&self, delivery: &Delivery) -> Option<State> {
        self.settle(delivery, completion()).await
    }

    async fn read(&self, id: &MessageRef) -> Message {
        self.queue.read(std::slice::from_ref(id)).await.unwrap().remove(0).expect("the message is known")
    }

    /// Asserts that the audit finds no mistake in the stored data of the queue.
    async fn assert_clean(&self) {
        let audit = self.queue.audit().await.unwrap();
        assert_eq!(audit.findings, [], "the audit finds nothing");
    }
}

fn connect(redis: &RedisServer, settings: &str) -> Queues {
    let settings: SettingsPatch = serde_json::from_str(settings).unwrap();
    settings.settings().unwrap();
    let redis = Redis::new(&redis.url(), TIME_LIMIT).unwrap();
    Queues::new(redis, [(queue_name(), settings)].into_iter().collect())
}

fn queue_name() -> QueueName {
    "q".parse().unwrap()
}

/// Makes a message with this number as its data.
fn numbered_message(number: u64) -> NewMessage {
    NewMessage::new(to_raw_value(&number).unwrap())
}

fn message_with_delay(data: u64, delay_ms: u64) -> NewMessage {
    NewMessage { delay: Some(Millis::new(delay_ms).try_into().unwrap()), ..numbered_message(data) }
}

fn message_with_priority(data: u64, priority: i64) -> NewMessage {
    NewMessage { priority: priority.try_into().unwrap(), ..numbered_message(data) }
}

fn completion() -> Action {
    Action::Complete(to_raw_value("done").unwrap())
}

fn failure() -> Failure {
    Failure::new("boom", "it went wrong")
}

/// Returns the numbers that are the data of the leased messages.
fn numbers(leased: &Leased) -> Vec<u64> {
    leased.deliveries.iter().map(|delivery| delivery.message.data.get().parse().unwrap()).collect()
}

/// Returns the number of calls of a script that the process of this test queue has made.
fn script_calls(fixture: &TestQueue, script: &str) -> u64 {
    calls_of(&fixture.queues, script)
}

/// Returns the number of calls of a script that were made through `queues`.
fn calls_of(queues: &Queues, script: &str) -> u64 {
    let (mut registry, mut text) = (Registry::default(), String::new());
    queues.redis().calls().register(&mut registry);
    prometheus_text::encode(&mut text, &registry).unwrap();
    let metric_start = format!("drover_redis_call_duration_seconds_count{{script=\"{script}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&metric_start)).map_or(0, |count| count.parse().unwrap())
}

/// Waits for this time (ms), so that Redis's clock advances by it.
async fn wait_millis(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
