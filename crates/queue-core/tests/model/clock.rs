//! Redis's clock steps back or forward by hours: limits, owners, leases and retention recover within their own durations. The
//! random operations of the model also step the clock back; each test of this file follows one case to its end.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis as raw_redis;
use drover_tests::RedisServer;
use queue_core::{
    Action, ConsumerId, LeaseRequest, Leased, Millis, NewMessage, Queue, Queues, Redis, Settlement, State,
};
use serde_json::value::to_raw_value;
use tokio::runtime::Runtime;

use crate::queue_and_model::queue_name;

const HOUR_MS: i64 = 3_600_000;
const START_MS: i64 = 1_795_424_400_000;

/// A queue on a Redis of its own, with the clock that the test sets.
struct TestQueue {
    runtime: Runtime,
    clock_connection: raw_redis::Connection,
    queue: Arc<Queue>,
    now: i64,
    server: RedisServer,
}

impl TestQueue {
    fn with_settings(json: &str) -> Self {
        queue_core::Redis::inject_clock();
        let server = RedisServer::start();
        let clock_connection = raw_redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let redis = Redis::new(&server.url(), Duration::from_secs(20)).unwrap();
        let queue = Queues::new(redis, [(queue_name(), serde_json::from_str(json).unwrap())].into_iter().collect())
            .queue(&queue_name());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut fixture = Self { runtime, clock_connection, queue, now: START_MS, server };
        fixture.advance_clock(0);
        fixture
    }

    /// Moves the clock by this time, which may be negative.
    fn advance_clock(&mut self, millis: i64) {
        self.now += millis;
        raw_redis::cmd("SET").arg("drover:{q}:clock").arg(self.now * 1_000).exec(&mut self.clock_connection).unwrap();
    }

    fn post(&self, count: usize) {
        let messages = (0..count).map(|n| NewMessage::new(to_raw_value(&n).unwrap())).collect();
        self.runtime.block_on(self.queue.enqueue(messages)).unwrap();
    }

    fn lease(&self, consumer: &ConsumerId, max: usize) -> Leased {
        let request = LeaseRequest::new(consumer.clone(), max);
        self.runtime.block_on(self.queue.lease(&request)).unwrap()
    }

    fn maintain(&self) {
        while self.runtime.block_on(self.queue.maintain()).unwrap().is_some_and(|pause| pause.is_zero()) {}
    }

    fn settle(&self, lease_reply: Leased, action: &Action) {
        let settlements: Vec<Settlement> = lease_reply
            .deliveries
            .into_iter()
            .map(|delivery| Settlement { lease: delivery.lease, action: action.clone() })
            .collect();
        self.runtime.block_on(self.queue.settle(&settlements)).unwrap();
    }

    fn count(&self, state: State) -> u64 {
        self.runtime.block_on(self.queue.status()).unwrap().unwrap().counts.of(state)
    }
}

/// The cases of the tests: each has a step of the clock (ms) before the tested action, and a step after the action.
const CLOCK_STEPS: [(i64, i64); 4] = [(0, -HOUR_MS), (HOUR_MS, -HOUR_MS), (0, -24 * HOUR_MS), (0, 5 * HOUR_MS)];

#[test]
fn a_lease_of_a_dead_consumer_is_recovered_within_its_own_duration() {
    for (before, after) in CLOCK_STEPS {
        let mut fixture = TestQueue::with_settings(r#"{"visibility_timeout":1000}"#);
        fixture.post(3);
        fixture.advance_clock(before);
        assert_eq!(fixture.lease(&ConsumerId::issue(), 2).deliveries.len(), 2);
        fixture.advance_clock(after);
        fixture.maintain();
        fixture.advance_clock(1_000);
        assert_eq!(fixture.lease(&ConsumerId::issue(), 9).deliveries.len(), 3, "clock steps {before} and {after}");
    }
}

#[test]
fn leases_of_different_durations_are_recovered_each_within_its_own() {
    let mut fixture = TestQueue::with_settings(r#"{"max_lapses":9}"#);
    fixture.post(3);
    let lease = |fixture: &TestQueue, secs| {
        let visibility_timeout = Some(Millis::from_secs(secs));
        let consumer = ConsumerId::issue();
        let request = LeaseRequest { visibility_timeout, ..LeaseRequest::new(consumer, 1) };
        fixture.runtime.block_on(fixture.queue.lease(&request)).unwrap().deliveries.remove(0)
    };
    let (long, short, extended) = (lease(&fixture, 7_200), lease(&fixture, 1), lease(&fixture, 1));
    let extension = Some(Millis::from_hours(2));
    fixture.runtime.block_on(fixture.queue.extend(std::slice::from_ref(&extended.lease), extension)).unwrap();
    fixture.advance_clock(-HOUR_MS);
    fixture.maintain();
    fixture.advance_clock(1_000);
    let redelivered = fixture.lease(&ConsumerId::issue(), 9).deliveries;
    assert_eq!(redelivered.len(), 1);
    assert_eq!(redelivered[0].message.id, short.message.id);
    fixture.advance_clock(2 * HOUR_MS);
    let redelivered = fixture.lease(&ConsumerId::issue(), 9).deliveries;
    let redelivered: Vec<_> = redelivered.iter().map(|delivery| &delivery.message.id).collect();
    assert!(redelivered.contains(&&long.message.id) && redelivered.contains(&&extended.message.id), "{redelivered:?}");
}

#[test]
fn exhausted_rate_limit_reopens_within_its_duration() {
    for (before, after) in CLOCK_STEPS {
        let mut fixture = TestQueue::with_settings(r#"{"rate_limit":{"max":5,"duration":2000}}"#);
        fixture.post(20);
        fixture.advance_clock(before);
        assert_eq!(fixture.lease(&ConsumerId::issue(), 9).deliveries.len(), 5);
        fixture.advance_clock(after);
        let lease_reply_at_once = fixture.lease(&ConsumerId::issue(), 9);
        if after < 0 {
            assert!(lease_reply_at_once.deliveries.is_empty(), "the rate limit still applies");
            assert!(lease_reply_at_once.call_again_in.unwrap() <= Duration::from_secs(2));
        }
        fixture.advance_clock(2_000);
        assert_eq!(fixture.lease(&ConsumerId::issue(), 9).deliveries.len(), 5, "clock steps {before} and {after}");
    }
}

#[test]
fn exclusive_queue_of_a_dead_owner_has_a_new_owner_within_the_visibility_timeout() {
    for (before, after) in CLOCK_STEPS {
        let mut fixture = TestQueue::with_settings(r#"{"exclusive":true,"visibility_timeout":1000}"#);
        fixture.post(3);
        fixture.advance_clock(before);
        // The consumer dies with its lease, and remains the owner.
        assert_eq!(fixture.lease(&ConsumerId::issue(), 1).deliveries.len(), 1);
        fixture.advance_clock(after);
        let other_consumer = ConsumerId::issue();
        assert!(
            after > 0 || fixture.lease(&other_consumer, 1).deliveries.is_empty(),
            "only one consumer at a time may lease messages"
        );
        fixture.advance_clock(1_000);
        assert_eq!(fixture.lease(&other_consumer, 1).deliveries.len(), 1, "clock steps {before} and {after}");
    }
}

#[test]
fn retention_by_count_continues_after_a_clock_step() {
    for (before, after) in CLOCK_STEPS {
        let retention_limits = r#"{"count":3,"min_age":100,"age":60000}"#;
        let mut fixture = TestQueue::with_settings(&format!(
            r#"{{"max_attempts":1,"retention":{{"completed":{retention_limits},"failed":{retention_limits}}}}}"#
        ));
        let consumer = ConsumerId::issue();
        let finish_twenty_messages = |fixture: &mut TestQueue| {
            fixture.post(20);
            let lease_reply = fixture.lease(&consumer, 10);
            fixture.settle(lease_reply, &Action::Complete(to_raw_value("done").unwrap()));
            let lease_reply = fixture.lease(&consumer, 10);
            fixture.settle(lease_reply, &Action::Fail(queue_core::Failure::new("x", "y")));
            fixture.advance_clock(100);
            fixture.maintain();
        };
        fixture.advance_clock(before);
        finish_twenty_messages(&mut fixture);
        fixture.advance_clock(after);
        for _ in 0..5 {
            finish_twenty_messages(&mut fixture);
        }
        let kept_counts = (fixture.count(State::Completed), fixture.count(State::Failed));
        assert_eq!(kept_counts, (3, 3), "clock steps {before} and {after}");
    }
}

#[test]
fn run_with_a_timeout_is_recovered_within_the_timeout() {
    let mut fixture = TestQueue::with_settings(
        r#"{"visibility_timeout":"1h","timeout":2000,"max_attempts":9,"backoff":{"delay":1}}"#,
    );
    fixture.post(1);
    assert_eq!(fixture.lease(&ConsumerId::issue(), 1).deliveries.len(), 1);
    fixture.advance_clock(-HOUR_MS);
    fixture.maintain();
    fixture.advance_clock(2_600);
    assert_eq!(fixture.count(State::Active), 1, "maintenance has not run yet");
    fixture.maintain();
    assert_eq!(fixture.count(State::Active), 0, "the attempt has timed out");
}

#[test]
fn short_leases_behind_hundreds_of_longer_ones_are_recovered() {
    let mut fixture = TestQueue::with_settings(r#"{"visibility_timeout":"12h"}"#);
    fixture.post(1_000);
    fixture.post(3);
    assert_eq!(fixture.lease(&ConsumerId::issue(), 1_000).deliveries.len(), 1_000);
    fixture.advance_clock(2 * HOUR_MS);
    let visibility_timeout = Some(Millis::from_secs(1));
    let request = LeaseRequest { visibility_timeout, ..LeaseRequest::new(ConsumerId::issue(), 3) };
    assert_eq!(fixture.runtime.block_on(fixture.queue.lease(&request)).unwrap().deliveries.len(), 3);
    fixture.advance_clock(-HOUR_MS);
    for _ in 0..4 {
        fixture.maintain();
    }
    fixture.advance_clock(1_000);
    assert_eq!(fixture.lease(&ConsumerId::issue(), 9).deliveries.len(), 3);
}

#[test]
fn run_is_bounded_by_its_timeout_even_if_a_heartbeat_precedes_maintenance() {
    let mut fixture = TestQueue::with_settings(r#"{"timeout":"60s","max_attempts":1}"#);
    fixture.post(1);
    let lease = fixture.lease(&ConsumerId::issue(), 1).deliveries.remove(0).lease;
    fixture.advance_clock(-HOUR_MS);
    for _ in 0..62 {
        fixture.runtime.block_on(fixture.queue.extend(std::slice::from_ref(&lease), None)).unwrap();
        fixture.maintain();
        fixture.advance_clock(1_000);
    }
    fixture.maintain();
    assert_eq!((fixture.count(State::Active), fixture.count(State::Failed)), (0, 1));
}

#[test]
fn second_clock_step_is_repaired_even_if_the_first_repair_was_incomplete() {
    let mut fixture = TestQueue::with_settings(r#"{"visibility_timeout":10000}"#);
    fixture.post(1_000);
    fixture.post(5);
    assert_eq!(fixture.lease(&ConsumerId::issue(), 1_000).deliveries.len(), 1_000);
    fixture.advance_clock(-HOUR_MS);
    fixture.runtime.block_on(fixture.queue.maintain()).unwrap();
    fixture.advance_clock(HOUR_MS + 60_000);
    fixture.maintain();
    assert_eq!(fixture.lease(&ConsumerId::issue(), 1_000).deliveries.len(), 1_000);
    fixture.advance_clock(-HOUR_MS);
    for _ in 0..4 {
        fixture.maintain();
    }
    fixture.advance_clock(10_000);
    fixture.maintain();
    assert_eq!(fixture.count(State::Active), 0);
}

#[test]
fn retention_by_age_continues_behind_messages_that_finished_before_the_clock_step() {
    for (before, after) in [(1, 50), (3_000, 900)] {
        let mut fixture = TestQueue::with_settings(r#"{"retention":{"completed":{"age":10000,"min_age":0}}}"#);
        let consumer = ConsumerId::issue();
        let complete_messages = |fixture: &TestQueue, mut count: usize| {
            while count > 0 {
                let batch_size = count.min(1_000);
                fixture.post(batch_size);
                let lease_reply = fixture.lease(&consumer, batch_size);
                fixture.settle(lease_reply, &Action::Complete(to_raw_value("done").unwrap()));
                count -= batch_size;
            }
        };
        fixture.advance_clock(HOUR_MS);
        complete_messages(&fixture, before);
        fixture.advance_clock(-HOUR_MS);
        complete_messages(&fixture, after);
        fixture.advance_clock(11_000);
        fixture.maintain();
        assert_eq!(fixture.count(State::Completed), 0, "{before} before the step, {after} after it");
    }
}

#[test]
fn retry_and_purge_of_dead_letters_end_and_exclude_later_failures() {
    let mut fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    let consumer = ConsumerId::issue();
    let fail_ready_messages = |fixture: &TestQueue| {
        let lease_reply = fixture.lease(&consumer, 1_000);
        fixture.settle(lease_reply, &Action::Fail(queue_core::Failure::new("x", "y")));
    };
    fixture.post(900);
    fail_ready_messages(&fixture);
    fixture.advance_clock(-HOUR_MS);
    // While the failed messages are retried, a consumer fails each retried message at once, and new messages too.
    let mut clock_connection = raw_redis::Client::open(fixture.server.url()).unwrap().get_connection().unwrap();
    let consume_repeatedly = async {
        for n in 0..400 {
            let messages = vec![NewMessage::new(to_raw_value(&n).unwrap())];
            fixture.queue.enqueue(messages).await.unwrap();
            let request = LeaseRequest::new(consumer.clone(), 100);
            let lease_reply = fixture.queue.lease(&request).await.unwrap();
            // The clock advances, so that no message fails at the instant at which the retry began.
            raw_redis::cmd("INCRBY").arg("drover:{q}:clock").arg(1_000).exec(&mut clock_connection).unwrap();
            let action = Action::Fail(queue_core::Failure::new("x", "y"));
            let failing_settlement =
                |delivery: queue_core::Delivery| Settlement { lease: delivery.lease, action: action.clone() };
            fixture
                .queue
                .settle(&lease_reply.deliveries.into_iter().map(failing_settlement).collect::<Vec<_>>())
                .await
                .unwrap();
        }
    };
    let (retried_count, ()) =
        fixture.runtime.block_on(async { tokio::join!(fixture.queue.retry_failed(), consume_repeatedly) });
    // A few of the new messages may have failed before the retry began.
    let retried_count = retried_count.unwrap();
    assert!((900..=920).contains(&retried_count), "{retried_count}: each message is retried once");
    fixture.advance_clock(1_000);
    fail_ready_messages(&fixture);
    let failed_count = fixture.count(State::Failed);
    fixture.advance_clock(1);
    let (purged, posted) = fixture.runtime.block_on(async {
        tokio::join!(fixture.queue.purge(State::Failed), async {
            fixture.queue.enqueue(vec![NewMessage::new(to_raw_value("new").unwrap())]).await.unwrap()
        })
    });
    assert_eq!((purged.unwrap(), posted.len()), (failed_count, 1));
    fail_ready_messages(&fixture);
    assert_eq!(fixture.count(State::Failed), 1);
}

#[test]
fn delayed_message_keeps_its_due_time_when_the_clock_steps_back() {
    let mut fixture = TestQueue::with_settings("{}");
    let delay = Some(Millis::from_secs(10).try_into().unwrap());
    fixture
        .runtime
        .block_on(fixture.queue.enqueue(vec![NewMessage { delay, ..NewMessage::new(to_raw_value("x").unwrap()) }]))
        .unwrap();
    fixture.advance_clock(-HOUR_MS);
    assert!(fixture.lease(&ConsumerId::issue(), 1).deliveries.is_empty());
    fixture.advance_clock(HOUR_MS + 9_999);
    assert!(fixture.lease(&ConsumerId::issue(), 1).deliveries.is_empty(), "the message is not delivered early");
    fixture.advance_clock(1);
    assert_eq!(fixture.lease(&ConsumerId::issue(), 1).deliveries.len(), 1);
}
