//! Tests of the stop of services: gracefully, at once after a second signal, and one after the other in a rolling restart.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use drover_tests::{TIME_LIMIT, eventually};
use queue_core::{NewMessage, Queue};
use serde_json::{json, value::to_raw_value};
use tokio::time::sleep;

use crate::{System, number, raw_client::LIVEZ_REQUEST, seed::from_env, system::HOURLY_POLLS};

#[tokio::test]
async fn both_services_stop_gracefully_and_lose_no_message() {
    let mut system = System::start("").await;
    let mut worker = system.worker().await;
    let mut locations = Vec::new();
    for n in 0..200 {
        locations.push(system.post("my-queue", number(n)).await);
    }
    assert!(worker.terminate().success());
    let _other = system.worker().await;
    for location in &locations {
        let message = system.finished(location).await;
        assert_eq!((&message["state"], &message["attempts_made"]), (&json!("completed"), &json!(1)));
        assert_eq!(message["lapses"], 0, "a graceful stop returns all leases");
    }
    system.assert_clean().await;
    assert!(system.api.terminate().success());
    let log = system.api.log();
    assert!(log.iter().any(|line| line.contains("producer-api stopped")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_in_progress_is_answered_before_the_api_stops() {
    let mut system = System::start("").await;
    let location = system.post("my-queue", number(1)).await;
    let url = system.url(&format!("{location}?wait=1500ms"));
    let waiting_request = tokio::spawn(system.http.get(url).send());
    // The key `awaited` exists as soon as the API serves the request that waits for the message.
    eventually("the API serves the request", || {
        system.redis.command("EXISTS drover:{my-queue}:awaited").contains(":1").then_some(())
    });
    assert!(system.api.terminate().success());
    assert_eq!(waiting_request.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn graceful_stop_of_the_api_does_not_wait_for_idle_connections() {
    let mut system = System::start("").await;
    let (mut idle, mut unused) = (system.connect().await, system.connect().await);
    assert_eq!(idle.request(LIVEZ_REQUEST).await.status, 200);
    let started_at = Instant::now();
    assert!(system.api.terminate().success());
    assert!(started_at.elapsed() < Duration::from_secs(5), "{:?}", started_at.elapsed());
    for client in [&mut idle, &mut unused] {
        assert!(client.read_until_closed().await.is_empty());
    }
    assert!(!system.api.log().iter().any(|line| line.contains("still under way")));
}

#[tokio::test]
async fn an_idle_worker_stops_at_once() {
    let system = System::start("").await;
    let mut worker = system.worker_with(&[HOURLY_POLLS]).await;
    let started_at = Instant::now();
    assert!(worker.terminate().success());
    // A stop that waited for the next poll would take an hour, and a stop that waited for the whole grace period would take 25
    // s.
    assert!(started_at.elapsed() < Duration::from_secs(10), "{:?}", started_at.elapsed());
}

const QUEUE: &str = "my-queue";

/// Posts `rate` messages per second until `is_over`, and returns their number. The data of each message is the run time of its
/// handler, 10 to 500 ms.
async fn post_at_rate(queue: Arc<Queue>, rate: u64, is_over: Arc<AtomicBool>) -> u64 {
    let (start_time, mut posted_count) = (Instant::now(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let due_count = u64::try_from(start_time.elapsed().as_millis()).unwrap() * rate / 1_000;
        let messages: Vec<NewMessage> = (posted_count..due_count.min(posted_count + 1_000))
            .map(|n| NewMessage::new(to_raw_value(&json!({"ms": 10 + n * 7_919 % 491})).unwrap()))
            .collect();
        if messages.is_empty() {
            sleep(Duration::from_millis(10)).await;
        } else {
            posted_count += messages.len() as u64;
            queue.enqueue(messages).await.unwrap();
        }
    }
    posted_count
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_under_load_loses_no_message_and_runs_no_message_twice() {
    // `DROVER_RESTARTS_SECS=60 DROVER_RESTARTS_RATE=5000` makes a longer run with more messages.
    let duration_secs = from_env("DROVER_RESTARTS_SECS").unwrap_or(12);
    let restart_rate = from_env("DROVER_RESTARTS_RATE").unwrap_or(300);
    let concurrency = (restart_rate / 2).to_string();
    let config = "[queues.my-queue]\nretention.completed = { count = 100000000 }\n[log]\nfilter = \"warn\"\n";
    let system = System::start(config).await;
    let folder = tempfile::tempdir().unwrap();
    let start_worker =
        || system.launch_sleeper(folder.path(), &[("DROVER__WORKER__CONCURRENCY", concurrency.as_str())]);
    let mut workers = vec![start_worker(), start_worker()];

    let queue = system.queues().queue(&QUEUE.parse().unwrap());
    let is_over = Arc::new(AtomicBool::new(false));
    let post_task = tokio::spawn(post_at_rate(Arc::clone(&queue), restart_rate, Arc::clone(&is_over)));
    let begin_time = Instant::now();
    let mut restarts = 0;
    while begin_time.elapsed() < Duration::from_secs(duration_secs) {
        sleep(Duration::from_secs(2)).await;
        // A rolling restart starts the new worker before it stops the old worker.
        workers.push(start_worker());
        let mut old = workers.remove(0);
        let exit_status = tokio::task::spawn_blocking(move || old.terminate()).await.unwrap();
        assert!(exit_status.success());
        restarts += 1;
    }
    is_over.store(true, Ordering::Relaxed);
    let posted_messages = post_task.await.unwrap();
    let drain_start = Instant::now();
    loop {
        let status = queue.status().await.unwrap().unwrap();
        if status.counts.completed == posted_messages {
            assert_eq!((status.totals.lapsed, status.totals.retried, status.totals.failed), (0, 0, 0));
            break;
        }
        assert!(drain_start.elapsed() < TIME_LIMIT * 3, "{posted_messages} messages were posted: {status:?}");
        sleep(Duration::from_millis(50)).await;
    }
    for worker in &mut workers {
        assert!(worker.terminate().success());
    }
    // Each handler has written the id of its message.
    let mut runs: HashMap<String, u32> = HashMap::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        for id in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            *runs.entry(id.to_owned()).or_default() += 1;
        }
    }
    assert_eq!(runs.len() as u64, posted_messages, "each message ran, after {restarts} restarts");
    let repeated_runs: Vec<_> = runs.iter().filter(|(_, count)| **count > 1).collect();
    assert!(repeated_runs.is_empty(), "these messages ran twice: {repeated_runs:?}");
    system.assert_clean().await;
}

#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once_and_its_messages_are_released() {
    let system = System::start("").await;
    let folder = tempfile::tempdir().unwrap();
    let mut worker = system.launch_sleeper(folder.path(), &[]);
    // One handler sleeps, and the other handler blocks its thread. If the worker did not stop, each handler of this test would
    // run for 60 s.
    let mut locations = Vec::new();
    for message in [json!({"data": {"ms": 60_000}}), json!({"data": {"ms": 60_000, "blocking": true}})] {
        locations.push(system.post(QUEUE, message).await);
    }
    for location in &locations {
        system.wait_for_state(location, "active").await;
    }
    worker.send_sigterm();
    worker.wait_for_log("a second signal stops at once");
    let begin_time = Instant::now();
    let exit_status = worker.terminate();
    assert_eq!(exit_status.code(), Some(1), "the exit code differs from that of a graceful stop");
    // Without the second signal, the worker would wait for its handlers for the grace period of 25 s.
    assert!(begin_time.elapsed() < Duration::from_secs(10), "{:?}", begin_time.elapsed());
    for location in &locations {
        let message = system.get(location).await;
        assert_eq!((&message["state"], &message["attempts_made"]), (&json!("waiting"), &json!(0)), "{message}");
    }
    system.post(QUEUE, number(1)).await;
    system.assert_clean().await;
}
