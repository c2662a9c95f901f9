//! The load under which tests hurt the system, and the account of it afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use drover_tests::PATIENCE;
use futures_util::future::join_all;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{System, redis_outage::REFUSED_WITHIN};

/// Where the load goes. What a test posts beside it goes to `my-queue`, so that this queue's account is exact.
pub(crate) const QUEUE: &str = "load";

/// Routes for both queues. With polls an hour apart, only wake-ups can explain that work goes on.
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

/// Clients that post messages with ids of their own, and post each again until they are told that it is stored.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    stored: Arc<AtomicUsize>,
    clients: JoinSet<Vec<Posted>>,
}

/// A message that is stored, as far as its client was told.
pub(crate) struct Posted {
    pub(crate) id: String,
    /// When it was sent first.
    pub(crate) begun: Instant,
}

impl Load {
    pub(crate) fn start(system: &System) -> Self {
        let (is_over, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        // Three post one by one; the fourth posts batches, so that workers are busy now and then.
        for (client, size) in [1, 1, 1, 100].into_iter().enumerate() {
            let (http, url) = (system.http.clone(), system.url(""));
            let (is_over, stored) = (Arc::clone(&is_over), Arc::clone(&stored));
            clients.spawn(async move {
                let mut posted = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let ids = (0..size).map(|n| format!("c{client}-{}", posted.len() + n)).collect();
                    posted.extend(post_until_stored(&http, &url, ids).await);
                    stored.fetch_add(size, Ordering::Relaxed);
                    sleep(Duration::from_millis(if size == 1 { 10 } else { 150 })).await;
                }
                posted
            });
        }
        Self { is_over, stored, clients }
    }

    /// Waits until so many more are stored.
    pub(crate) async fn goes_on(&self, messages: usize) {
        let start = Instant::now();
        let enough = self.stored.load(Ordering::Relaxed) + messages;
        while self.stored.load(Ordering::Relaxed) < enough {
            assert!(start.elapsed() < PATIENCE, "the load does not go on");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it, when each client knows that its last message is stored too.
    pub(crate) async fn stop(self) -> Vec<Posted> {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn post_until_stored(http: &Client, base: &str, ids: Vec<String>) -> Vec<Posted> {
    let begun = Instant::now();
    // A third is delayed, some have a priority: each way through the queue is taken.
    let messages: Vec<Value> = ids
        .iter()
        .enumerate()
        .map(
            |(n, id)| json!({"id": id, "data": id, "delay": n % 3 / 2 * 300, "priority": i32::from(id.ends_with('7'))}),
        )
        .collect();
    let (path, body) = match &messages[..] {
        [one] => ("messages", one.to_string()),
        more => ("messages/batch", json!({"messages": more}).to_string()),
    };
    let url = format!("{base}/v1/queues/{QUEUE}/{path}");
    loop {
        let request = http.post(&url).header("content-type", "application/json").body(body.clone()).timeout(PATIENCE);
        let asked = Instant::now();
        // An error: the API is away, or it went before it answered.
        if let Ok(answer) = request.send().await
            && is_stored(answer, asked.elapsed()).await
        {
            return ids.into_iter().map(|id| Posted { id, begun }).collect();
        }
        assert!(begun.elapsed() < PATIENCE, "{ids:?}: can't be posted");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn is_stored(answer: Response, took: Duration) -> bool {
    match answer.status() {
        StatusCode::CREATED | StatusCode::OK => true,
        StatusCode::SERVICE_UNAVAILABLE => {
            assert!(took < REFUSED_WITHIN, "{took:?}");
            assert_eq!(answer.headers()["retry-after"], "1");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            false
        }
        other => panic!("{other}: {:?}", answer.text().await),
    }
}

/// The account of a load: every message that was posted is there once, and completed.
pub(crate) struct Account {
    pub(crate) messages: u64,
    /// Deliveries beyond the first.
    pub(crate) repeated: u64,
    pub(crate) lapses: u64,
}

impl Account {
    pub(crate) async fn of(system: &System, posted: &[Posted]) -> Self {
        let messages = posted.len() as u64;
        let status = all_completed(system, messages).await;
        let mut account = Self { messages, repeated: 0, lapses: 0 };
        for message in read_all(system, posted).await {
            assert_eq!((&message["state"], &message["attempts_made"]), (&json!("completed"), &json!(1)), "{message}");
            assert_eq!(message["data"], message["id"], "{message}");
            let (deliveries, lapses) = (message["deliveries"].as_u64().unwrap(), message["lapses"].as_u64().unwrap());
            assert!((1..=1 + lapses).contains(&deliveries), "only a lapse has a message delivered again: {message}");
            account.repeated += deliveries - 1;
            account.lapses += lapses;
        }
        // Those that clients sent again, because they did not hear the answer, were stored once.
        let totals = json!(
            {"enqueued": messages, "completed": messages, "failed": 0, "retried": 0, "lapsed": account.lapses,
             "expired": 0, "cancelled": 0}
        );
        assert_eq!(status["totals"], totals);
        account
    }
}

/// Waits until so many messages of the load are completed and none is left; answers the queue's status.
pub(crate) async fn all_completed(system: &System, count: u64) -> Value {
    let expected = json!({"held": 0, "delayed": 0, "waiting": 0, "active": 0, "completed": count, "failed": 0});
    let start = Instant::now();
    loop {
        let status = system.get(&format!("/v1/queues/{QUEUE}")).await;
        if status["counts"] == expected {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "{count} messages should be completed: {status}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// What the API knows of each message.
pub(crate) async fn read_all(system: &System, posted: &[Posted]) -> Vec<Value> {
    let mut messages = Vec::with_capacity(posted.len());
    for some in posted.chunks(100) {
        let asked = some.iter().map(async |posted| {
            let path = format!("/v1/queues/{QUEUE}/messages/{}", posted.id);
            system.get(&path).await
        });
        messages.extend(join_all(asked).await);
    }
    messages
}
