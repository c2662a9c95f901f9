//! The load that runs while tests inject faults, and the check of the load's messages afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use drover_tests::TIME_LIMIT;
use futures_util::future::join_all;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{System, redis_outage::MAX_REFUSAL_TIME};

/// The queue of the load. The load has its own queue, because tests post other messages to `my-queue`, and the totals of the
/// load's queue must be exact.
pub(crate) const QUEUE: &str = "load";

/// Routes for both queues. The worker polls once an hour, so only wake-ups and timers start work.
pub(crate) const CONFIG: &str = r#"
[worker]
concurrency = 20
poll_interval = "1h"
[[worker.routes]]
queue = "my-queue"
handler = { type = "log" }
[[worker.routes]]
queue = "load"
handler = { type = "log" }
[log]
filter = "info,consumer_worker::handlers=warn"
[queues.load]
max_lapses = 1000
retention.completed = { count = 100000000 }
"#;

/// Clients that post messages with own ids, and repeat each POST until the API has confirmed it.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    stored_count: Arc<AtomicUsize>,
    clients: JoinSet<Vec<PostedMessage>>,
}

/// A message that the API has confirmed.
pub(crate) struct PostedMessage {
    pub(crate) id: String,
    /// The instant at which the client first sent the POST of the message.
    pub(crate) first_sent_at: Instant,
}

impl Load {
    pub(crate) fn start(system: &System) -> Self {
        let (is_over, stored_count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut posting_clients = JoinSet::new();
        // Three clients post single messages. One more client posts batches of 100 messages, so that the workers are busy at times.
        for (client, size) in [1, 1, 1, 100].into_iter().enumerate() {
            let (http, url) = (system.http.clone(), system.url(""));
            let (is_over, stored_count) = (Arc::clone(&is_over), Arc::clone(&stored_count));
            posting_clients.spawn(async move {
                let mut posted_messages = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let ids = (0..size).map(|n| format!("c{client}-{}", posted_messages.len() + n)).collect();
                    posted_messages.extend(post_until_stored(&http, &url, ids).await);
                    stored_count.fetch_add(size, Ordering::Relaxed);
                    sleep(Duration::from_millis(if size == 1 { 10 } else { 150 })).await;
                }
                posted_messages
            });
        }
        Self { is_over, stored_count, clients: posting_clients }
    }

    /// Waits until this many more messages are stored.
    pub(crate) async fn wait_for_more_messages(&self, messages: usize) {
        let started_at = Instant::now();
        let target_count = self.stored_count.load(Ordering::Relaxed) + messages;
        while self.stored_count.load(Ordering::Relaxed) < target_count {
            assert!(started_at.elapsed() < TIME_LIMIT, "the clients store no more messages");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops the clients, each as soon as its last message is confirmed, and returns all confirmed messages.
    pub(crate) async fn stop(self) -> Vec<PostedMessage> {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn post_until_stored(http: &Client, base: &str, ids: Vec<String>) -> Vec<PostedMessage> {
    let first_sent_at = Instant::now();
    // Some messages are delayed and some have a priority, so that messages take each path through the queue.
    let messages: Vec<Value> = ids
        .iter()
        .enumerate()
        .map(
            |(n, id)| json!({"id": id, "data": id, "delay": n % 3 / 2 * 300, "priority": i32::from(id.ends_with('7'))}),
        )
        .collect();
    let (path, body) = match &messages[..] {
        [message] => ("messages", message.to_string()),
        batch => ("messages/batch", json!({"messages": batch}).to_string()),
    };
    let url = format!("{base}/v1/queues/{QUEUE}/{path}");
    loop {
        let request = http.post(&url).header("content-type", "application/json").body(body.clone()).timeout(TIME_LIMIT);
        let requested_at = Instant::now();
        // An error of the connection means that the API is down, or that it ended before it answered.
        if let Ok(answer) = request.send().await
            && answer_if_stored(answer, requested_at.elapsed()).await.is_some()
        {
            return ids.into_iter().map(|id| PostedMessage { id, first_sent_at }).collect();
        }
        assert!(first_sent_at.elapsed() < TIME_LIMIT, "{ids:?}: can't be posted");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the body of the answer to a POST that is stored; `None` if the POST is refused, with an answer that lets the client
/// repeat it.
pub(crate) async fn answer_if_stored(answer: Response, took: Duration) -> Option<Value> {
    match answer.status() {
        StatusCode::CREATED | StatusCode::OK => Some(answer.json().await.unwrap()),
        StatusCode::SERVICE_UNAVAILABLE => {
            assert!(took < MAX_REFUSAL_TIME, "{took:?}");
            assert_eq!(answer.headers()["retry-after"], "1");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            None
        }
        other => panic!("{other}: {:?}", answer.text().await),
    }
}

/// The result of a load in which every posted message was stored once and completed.
pub(crate) struct LoadReport {
    pub(crate) messages: u64,
    /// The number of repeated deliveries: all deliveries except the first delivery of each message.
    pub(crate) repeated: u64,
    pub(crate) lapses: u64,
}

impl LoadReport {
    pub(crate) async fn verify(system: &System, posted: &[PostedMessage]) -> Self {
        let messages = posted.len() as u64;
        let status = wait_until_all_completed(system, messages).await;
        let mut report = Self { messages, repeated: 0, lapses: 0 };
        for message in read_messages(system, posted).await {
            assert_eq!((&message["state"], &message["attempts_made"]), (&json!("completed"), &json!(1)), "{message}");
            assert_eq!(message["data"], message["id"], "{message}");
            let (deliveries, lapses) = (message["deliveries"].as_u64().unwrap(), message["lapses"].as_u64().unwrap());
            assert!(
                (1..=1 + lapses).contains(&deliveries),
                "a message is delivered again only after a lapse: {message}"
            );
            report.repeated += deliveries - 1;
            report.lapses += lapses;
        }
        // A message that a client posted again after a lost answer was stored only once.
        let totals = json!(
            {"enqueued": messages, "completed": messages, "failed": 0, "retried": 0, "lapsed": report.lapses,
             "expired": 0, "cancelled": 0, "scheduled": 0}
        );
        assert_eq!(status["totals"], totals);
        report
    }
}

/// Waits until this many messages of the load are completed and no others are left. Returns the queue's status.
pub(crate) async fn wait_until_all_completed(system: &System, count: u64) -> Value {
    let expected = json!({"held": 0, "delayed": 0, "waiting": 0, "active": 0, "completed": count, "failed": 0});
    let started_at = Instant::now();
    loop {
        let status = system.get(&format!("/v1/queues/{QUEUE}")).await;
        if status["counts"] == expected {
            return status;
        }
        assert!(started_at.elapsed() < TIME_LIMIT, "{count} messages should be completed: {status}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Reads each message of the load from the API, and returns the JSON of the messages.
pub(crate) async fn read_messages(system: &System, posted: &[PostedMessage]) -> Vec<Value> {
    let mut messages = Vec::with_capacity(posted.len());
    for chunk in posted.chunks(100) {
        let requests = chunk.iter().map(async |posted| {
            let path = format!("/v1/queues/{QUEUE}/messages/{}", posted.id);
            system.get(&path).await
        });
        messages.extend(join_all(requests).await);
    }
    messages
}
