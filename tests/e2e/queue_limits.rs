//! Tests of limits of a queue over several workers: the rate limit, and the order of an exclusive queue whose workers are
//! killed and stopped.

use std::time::{Duration, Instant};

use queue_core::{Message, State};
use serde_json::json;

use crate::{System, number};

/// Returns all completed messages in the order of their completion.
async fn completed_messages(system: &System, queue: &str) -> Vec<Message> {
    let queue = system.queues().queue(&queue.parse().unwrap());
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let page = queue.list(State::Completed, 1_000, cursor.as_deref()).await.unwrap();
        all.extend(page.messages);
        cursor = page.next;
        if cursor.is_none() {
            all.reverse();
            return all;
        }
    }
}

async fn wait_until_completed(system: &System, queue: &str, count: u64) {
    let started_at = Instant::now();
    while system.get(&format!("/v1/queues/{queue}")).await["counts"]["completed"].as_u64() < Some(count) {
        assert!(started_at.elapsed() < Duration::from_secs(40), "{count} messages are not completed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn rate_limit_of_a_queue_applies_over_all_workers_and_is_reached() {
    let config = r#"
        [queues.my-queue]
        rate_limit = { max = 30, duration = "1s" }
        [worker]
        poll_interval = "1h"
    "#;
    let system = System::start(config).await;
    let _workers = [system.worker().await, system.worker().await, system.worker().await];
    system.post_batch("my-queue", (0..125).map(number)).await;
    wait_until_completed(&system, "my-queue", 125).await;
    let messages = completed_messages(&system, "my-queue").await;
    let mut starts: Vec<u64> = messages.iter().map(|message| message.started_at.unwrap().as_millis()).collect();
    starts.sort_unstable();
    for window in starts.windows(31) {
        assert!(window[30] - window[0] >= 1_000, "31 messages were leased within {} ms", window[30] - window[0]);
    }
    // 125 messages at 30 a second fill four windows and a part of the fifth. The workers poll too rarely to affect the measured duration.
    let duration_millis = starts[124] - starts[0];
    // Each window of the rate limit may open late on a busy machine; without the worker's timer no window would open within the
    // hour. The exact rate is checked in `tests/timed`.
    assert!((4_000..8_000).contains(&duration_millis), "{duration_millis} ms");
    system.assert_clean().await;
}

#[tokio::test]
async fn an_exclusive_queue_keeps_its_order_while_its_workers_die_and_stop() {
    let config = r#"
        [queues.my-queue]
        exclusive = true
        visibility_timeout = "4s"
        [worker]
        poll_interval = "1h"
    "#;
    let system = System::start(config).await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        let worker = system.worker().await;
        let line = worker.wait_for_log("consumer=");
        let consumer = line.split("consumer=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        workers.push((consumer, worker));
    }
    // The owner of the first round is killed, the owner of the second round is stopped, and the owner of the third round is
    // killed.
    for ending in ["kill", "stop", "kill"] {
        let location = system.post("my-queue", number(1_000)).await;
        let owner = system.finished(&location).await["consumer"].as_str().unwrap().to_owned();
        system.post_batch("my-queue", (0..300).map(number)).await;
        let owner_index =
            workers.iter().position(|(consumer, _)| *consumer == owner).expect("the owner is a running worker");
        let (_, mut worker) = workers.swap_remove(owner_index);
        if ending == "kill" {
            worker.kill();
        } else {
            worker.terminate();
        }
        let next_location = system.post("my-queue", number(1_001)).await;
        let message = system.finished(&next_location).await;
        assert_ne!(message["consumer"], json!(owner));
    }
    let messages = completed_messages(&system, "my-queue").await;
    assert_eq!(messages.len(), 3 * 302);
    assert!(
        messages.is_sorted_by_key(|message| message.id.as_str().to_owned()),
        "the messages complete in the order of their posts"
    );
    // The messages of each consumer are consecutive: no two consumers worked at the same time.
    let mut consumers: Vec<&str> = messages.iter().map(|message| message.consumer.as_ref().unwrap().as_str()).collect();
    consumers.dedup();
    let mut owners = consumers.clone();
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(consumers.len(), owners.len(), "each consumer was the owner once: {consumers:?}");
    let mut pauses = Vec::new();
    for pair in messages.windows(2) {
        let (ended, started) = (pair[0].finished_at.unwrap(), pair[1].started_at.unwrap());
        assert!(started >= ended, "one message runs at a time");
        if pair[0].consumer != pair[1].consumer {
            pauses.push(started.since(ended).get());
        }
    }
    // The pauses between two owners of the queue are by the clock of Redis. A stopped owner gives up the queue at once; a killed owner
    // keeps the queue for the owner timeout, 4 s.
    let [killed, stopped, killed_again] = pauses[..] else { panic!("expected three changes of the owner: {pauses:?}") };
    assert!(
        stopped < 3_000 && killed < 7_000 && killed_again < 7_000,
        "other workers became owners after {pauses:?} ms"
    );
    system.assert_clean().await;
}
