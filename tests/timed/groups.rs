//! A test of the cost of groups: messages with a group may take at most twice the CPU time of Redis that messages without a
//! group take.

use queue_core::{ConsumerId, LeaseRequest, NewMessage, Queue, Settlement, State};
use serde_json::json;

use crate::system::{System, completed};

const ROUND_COUNT: u64 = 20;
const MESSAGES_PER_ROUND: u64 = 5_000;

/// The number of messages that a busy worker leases at a time in the default configuration.
const BATCH_SIZE: usize = 33;

/// A queue on its own Redis server.
struct MeasuredQueue {
    system: System,
    queue: std::sync::Arc<Queue>,
    group_of: fn(u64) -> Option<String>,
    /// The CPU time (µs) that Redis used for the messages of each round.
    cpu_times: Vec<u64>,
}

impl MeasuredQueue {
    async fn start(group_of: fn(u64) -> Option<String>) -> Self {
        let system = System::start("").await;
        let queue = system.queues().queue(&"my-queue".parse().unwrap());
        Self { system, queue, group_of, cpu_times: vec![0; usize::try_from(ROUND_COUNT).unwrap()] }
    }

    /// Returns the CPU time (µs) that Redis has used since its start.
    fn redis_cpu(&self) -> u64 {
        let info = self.system.redis.command("INFO cpu");
        let used_seconds = |field: &str| -> u64 {
            let cpu_seconds = info.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim();
            let (seconds, micros) = cpu_seconds.split_once('.').unwrap();
            seconds.parse::<u64>().unwrap() * 1_000_000 + micros.parse::<u64>().unwrap()
        };
        used_seconds("used_cpu_sys:") + used_seconds("used_cpu_user:")
    }

    async fn post(&mut self, round: u64) {
        let cpu_before = self.redis_cpu();
        let message = |n: u64| {
            let mut message = json!({"data": n});
            if let Some(group) = (self.group_of)(n) {
                message["group"] = group.into();
            }
            serde_json::from_str::<NewMessage>(&message.to_string()).unwrap()
        };
        let first = round * MESSAGES_PER_ROUND;
        for chunk in (first..first + MESSAGES_PER_ROUND).step_by(1_000) {
            self.queue.enqueue((chunk..chunk + 1_000).map(message).collect()).await.unwrap();
        }
        self.cpu_times[usize::try_from(round).unwrap()] += self.redis_cpu() - cpu_before;
    }

    async fn complete(&mut self, round: u64) {
        let cpu_before = self.redis_cpu();
        let consumer = ConsumerId::issue();
        let mut messages_left = usize::try_from(MESSAGES_PER_ROUND).unwrap();
        while messages_left > 0 {
            let request = LeaseRequest::new(consumer.clone(), BATCH_SIZE.min(messages_left));
            let deliveries_now = self.queue.lease(&request).await.unwrap().deliveries;
            let settlements: Vec<Settlement> = deliveries_now
                .into_iter()
                .map(|delivery| Settlement { lease: delivery.lease, action: completed() })
                .collect();
            messages_left -= settlements.len();
            let settle_outcomes = self.queue.settle(&settlements).await.unwrap();
            assert!(settle_outcomes.iter().all(|state| *state == Some(State::Completed)));
        }
        self.cpu_times[usize::try_from(round).unwrap()] += self.redis_cpu() - cpu_before;
    }
}

/// The measurement alternates between the plain queue and the queue with groups, so that other load of the machine slows both queues.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_groups_of_one_message_cost_at_most_twice_the_cpu_of_a_plain_queue() {
    let mut plain_queue = MeasuredQueue::start(|_| None).await;
    let mut grouped_queue = MeasuredQueue::start(|n| Some(format!("user-{n}"))).await;
    for round in 0..ROUND_COUNT {
        plain_queue.post(round).await;
        grouped_queue.post(round).await;
    }
    for round in 0..ROUND_COUNT {
        plain_queue.complete(round).await;
        grouped_queue.complete(round).await;
    }
    let mut percent: Vec<u64> = grouped_queue
        .cpu_times
        .iter()
        .zip(&plain_queue.cpu_times)
        .map(|(with, without)| 100 * with / without)
        .collect();
    percent.sort_unstable();
    let median = percent[percent.len() / 2];
    assert!(median <= 200, "{median} % of the CPU time of a plain queue; all rounds: {percent:?}");
}
