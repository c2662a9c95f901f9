//! Tests of one worker with thousands of queues, which have a route each or match one pattern.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use queue_core::NewMessage;
use serde_json::value::to_raw_value;

use crate::{
    System, number,
    system::{HOURLY_POLLS, metric_in},
};

const QUEUE_COUNT: u64 = 5_000;

const CONFIG: &str = r#"
[worker]
poll_interval = "1h"
[[worker.routes]]
queue = "user-*"
handler = { type = "log" }
[log]
filter = "warn"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_queues_need_one_subscription_and_little_memory_and_are_all_served() {
    let system = System::start(CONFIG).await;
    let (_worker, worker_url) = system.worker_and_url(&[]).await;
    let queues = system.queues();
    let post_to_queue = async |n: u64| {
        let queue = queues.queue(&format!("user-{n}").parse().unwrap());
        queue.enqueue(vec![NewMessage::new(to_raw_value(&n).unwrap())]).await.unwrap();
        queue
    };
    let completed_count = async |queue: &queue_core::Queue| queue.status().await.unwrap().unwrap().totals.completed;
    let wait_until_completed = async |queue: &queue_core::Queue, count: u64| {
        let started_at = Instant::now();
        while completed_count(queue).await < count {
            assert!(started_at.elapsed() < Duration::from_secs(60), "{} is not served", queue.name());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // The queues are created while the worker runs.
    let created_queues: Vec<_> = stream::iter(0..QUEUE_COUNT).map(post_to_queue).buffer_unordered(32).collect().await;
    for queue in &created_queues {
        wait_until_completed(queue, 1).await;
    }
    let subscriber_list = system.redis.command("CLIENT LIST TYPE pubsub");
    let pattern_subscribers: u32 = subscriber_list
        .lines()
        .filter(|line| line.contains(" psub=") && !line.contains(" psub=0 "))
        .count()
        .try_into()
        .unwrap();
    assert_eq!(
        pattern_subscribers, 2,
        "the worker has a connection with one pattern, the API a connection with two: {subscriber_list}"
    );
    let metrics = system.http.get(format!("{worker_url}/metrics")).send().await.unwrap().text().await.unwrap();
    assert_eq!(metric_in(&metrics, "drover_worker_queues{queue=\"user-*\"}"), QUEUE_COUNT);
    let memory = metric_in(&metrics, "process_resident_memory_bytes");
    assert!((1..150_000_000).contains(&memory), "{memory} bytes for {QUEUE_COUNT} idle queues");

    // A new message in any of the idle queues is handled at once.
    for n in [0, 1, 2_500, 4_999, 5_000] {
        let begin_time = Instant::now();
        let queue = post_to_queue(n).await;
        wait_until_completed(&queue, if n < QUEUE_COUNT { 2 } else { 1 }).await;
        // Polls would find the message only after up to 50 s, the time of one round over all queues.
        assert!(begin_time.elapsed() < Duration::from_secs(4), "user-{n} took {:?}", begin_time.elapsed());
    }
}

#[tokio::test]
async fn thousand_idle_queues_need_one_subscription_and_no_polling() {
    let mut routes = String::new();
    for n in 0..1_000 {
        writeln!(routes, "[[worker.routes]]\nqueue = \"q{n}\"\nhandler = {{ type = \"log\", result = {n} }}").unwrap();
    }
    let system = System::start(&routes).await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    assert_eq!(system.finished(&system.post("q999", number(1)).await).await["result"], 999);
    let subscribers = system.redis.command("CLIENT LIST TYPE pubsub");
    assert_eq!(subscribers.matches("id=").count(), 2, "the API and the worker have one connection each: {subscribers}");
    let script_calls = || {
        let command_stats = system.redis.command("INFO commandstats");
        let line = command_stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap().to_owned();
        line.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap()
    };
    // The first lease call of each queue may still be in progress.
    let mut call_count_before = script_calls();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let new_call_count = script_calls();
        if new_call_count == call_count_before {
            break;
        }
        call_count_before = new_call_count;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(script_calls(), call_count_before, "no script runs while nothing happens");
    assert_eq!(system.finished(&system.post("q7", number(1)).await).await["result"], 7);
}
