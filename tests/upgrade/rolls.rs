//! The test that replaces the processes of a system under load one after the other: by the tested version, by the previous version, and by
//! the tested version again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_tests::TIME_LIMIT;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    deployment::{API_COUNT, Deployment},
    load::{HTTP_CONSUMER_QUEUE, Load, PostedMessage, QUEUE},
    receiver::{Receiver, Runs},
    versions::{Version, build_both_versions},
};

const TICKS_QUEUE: &str = "ticks";
const SCHEDULE: &str = "/v1/queues/ticks/schedules/each-second";
const WORKER_COUNT: usize = 2;
/// The number of messages that are posted, and handled, before the next process is replaced.
const MESSAGES_PER_STEP: usize = 60;

/// Returns the configuration of all processes. The workers poll once an hour, so only wake-ups and timers start work.
fn config(receiver: &Receiver) -> String {
    let url = &receiver.url;
    format!(
        r#"
[worker]
concurrency = 20
poll_interval = "1h"
[[worker.routes]]
queue = "{QUEUE}"
handler = {{ type = "http", url = "{url}" }}
[[worker.routes]]
queue = "{TICKS_QUEUE}"
handler = {{ type = "log" }}
[queues.{QUEUE}]
backoff = {{ type = "fixed", delay = "100ms" }}
retention.completed = {{ count = 100000000 }}
[log]
filter = "info,consumer_worker::handlers=warn"
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_replaced_by_another_version_under_load_lose_no_message_and_run_no_message_twice() {
    build_both_versions();
    let receiver = Receiver::start().await;
    let mut deployment = Deployment::start(Version::Before, &config(&receiver), WORKER_COUNT).await;
    let schedule = json!({"every": "1s", "missed": "all", "message": {"data": "tick"}});
    let (status, answer) = deployment.request(Method::PUT, SCHEDULE, Some(&schedule)).await;
    assert_eq!(status, 201, "{answer}");
    let load = Load::start(&deployment.http(), &deployment.urls());
    wait_for_work(&load, &receiver).await;

    for version in [Version::This, Version::Before, Version::This] {
        for index in 0..API_COUNT.max(WORKER_COUNT) {
            deployment.replace_worker(index, version).await;
            wait_for_work(&load, &receiver).await;
            deployment.replace_api(index, version).await;
            wait_for_work(&load, &receiver).await;
        }
    }

    let posts = load.stop().await;
    let status = deployment.finished(QUEUE).await;
    assert_message_runs(&receiver.runs.lock().unwrap(), &posts.posted);
    let retried: u32 = posts.posted.iter().map(|message| message.fails).sum();
    assert_queue_totals(&status, posts.posted.len(), retried);

    let pulled: BTreeSet<&String> = posts.pulled.iter().collect();
    assert_eq!(pulled.len(), posts.pulled.len(), "the consumer gets no message twice");
    assert_queue_totals(&deployment.finished(HTTP_CONSUMER_QUEUE).await, posts.pulled.len(), 0);

    deployment.post_empty(&format!("{SCHEDULE}/pause")).await;
    assert_ticks(&deployment).await;
    deployment.assert_clean().await;
}

/// Waits until more messages are posted and handled.
async fn wait_for_work(load: &Load, receiver: &Receiver) {
    let run_count = || receiver.runs.lock().unwrap().count();
    let start = Instant::now();
    let (confirmed, runs) = (load.confirmed_count() + MESSAGES_PER_STEP, run_count() + MESSAGES_PER_STEP);
    while load.confirmed_count() < confirmed || run_count() < runs {
        assert!(
            start.elapsed() < TIME_LIMIT,
            "{} of {confirmed} messages are posted, {} of {runs} messages have run",
            load.confirmed_count(),
            run_count()
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Asserts that each message ran once, and once more after each failed attempt, and that the messages of a group ran in order.
fn assert_message_runs(runs: &Runs, posted: &[PostedMessage]) {
    let expected_attempts = |message: &PostedMessage| (message.id.clone(), (1..=message.fails + 1).collect());
    let expected: BTreeMap<String, Vec<u32>> = posted.iter().map(expected_attempts).collect();
    let other_attempts: Vec<_> = expected
        .iter()
        .map(|(id, attempts)| (id, attempts, runs.attempts.get(id)))
        .filter(|(_, attempts, actual)| Some(*attempts) != *actual)
        .collect();
    assert!(other_attempts.is_empty(), "the attempts differ: {other_attempts:?}");
    assert_eq!(runs.attempts.len(), posted.len(), "only posted messages run");
    for (group, numbers) in &runs.groups {
        assert!(numbers.is_sorted(), "the messages of {group} run in order: {numbers:?}");
    }
    assert!(runs.overlapping.is_empty(), "two messages of a group run at a time: {:?}", runs.overlapping);
}

/// Asserts that a queue has stored and completed this number of messages, and that no lease lapsed.
fn assert_queue_totals(status: &Value, message_count: usize, retried: u32) {
    let totals = json!(
        {"enqueued": message_count, "completed": message_count, "failed": 0, "retried": retried, "lapsed": 0,
         "expired": 0, "cancelled": 0, "scheduled": 0}
    );
    assert_eq!(status["totals"], totals, "{status}");
    assert_eq!(status["counts"]["failed"], 0, "{status}");
}

/// Asserts that the schedule has posted a message for each second, and that each message was completed by its first delivery.
async fn assert_ticks(deployment: &Deployment) {
    let status = deployment.finished(TICKS_QUEUE).await;
    let page = deployment.get(&format!("/v1/queues/{TICKS_QUEUE}/messages?limit=1000")).await;
    let messages = page["messages"].as_array().unwrap();
    assert_eq!(status["totals"]["scheduled"], messages.len(), "{status}");
    let mut ticks: Vec<u64> = messages.iter().map(|message| millis(&message["scheduled_at"])).collect();
    ticks.sort_unstable();
    assert!(
        ticks.len() > 1 && ticks.windows(2).all(|pair| pair[1] == pair[0] + 1_000),
        "not one message for each second: {ticks:?}"
    );
    for message in messages {
        assert_eq!((&message["state"], &message["deliveries"]), (&json!("completed"), &json!(1)), "{message}");
    }
}

/// Returns milliseconds since 1970 of an instant in the API's format.
fn millis(instant: &Value) -> u64 {
    serde_json::from_value::<queue_core::Timestamp>(instant.clone()).unwrap().as_millis()
}
