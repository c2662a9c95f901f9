//! Tests of the rate limit of a queue.

use std::time::{Duration, Instant};

use queue_core::{ConsumerId, LeaseRequest, Timestamp};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{TestQueue, completion, numbers};

/// Leases and completes as many messages as the rate limit permits, until this time has passed. Returns the instant
/// (ms) of each lease.
async fn lease_during(fixture: &TestQueue, max: usize, time: Duration) -> Vec<u64> {
    let request = LeaseRequest { consumer: ConsumerId::issue(), ..fixture.request(max) };
    let end_time = Instant::now() + time;
    let mut lease_times = Vec::new();
    while Instant::now() < end_time {
        let lease_reply = fixture.queue.lease(&request).await.unwrap();
        for delivery in &lease_reply.deliveries {
            lease_times.push(delivery.message.started_at.unwrap().as_millis());
            fixture.complete(delivery).await;
        }
        if let (false, Some(pause)) = (lease_reply.more_is_ready, lease_reply.call_again_in) {
            tokio::time::sleep(pause.min(Duration::from_millis(500))).await;
        }
    }
    lease_times
}

/// Asserts that no window of `duration` has more than `max` leases, wherever it starts.
fn assert_limit(mut starts: Vec<u64>, max: usize, duration: u64) {
    starts.sort_unstable();
    for window in starts.windows(max + 1) {
        let span_of_window = window[max] - window[0];
        assert!(span_of_window >= duration, "{} leases within {span_of_window} ms", max + 1);
    }
}

#[tokio::test]
async fn no_window_has_more_leases_than_the_rate_limit_with_any_number_of_consumers() {
    for (max, duration) in [(1, 50), (10, 400), (7, 1)] {
        let settings = format!(r#"{{"rate_limit":{{"max":{max},"duration":{duration}}}}}"#);
        let fixture = TestQueue::with_settings(&settings);
        for _ in 0..5 {
            fixture.post_numbers(0..500).await;
        }
        let fixture = std::sync::Arc::new(fixture);
        let mut consumers = JoinSet::new();
        for n in 1..=6 {
            let fixture = std::sync::Arc::clone(&fixture);
            consumers.spawn(async move { lease_during(&fixture, n * 3, Duration::from_millis(1_500)).await });
        }
        let lease_times: Vec<u64> = consumers.join_all().await.into_iter().flatten().collect();
        assert!(lease_times.len() > max, "{} leases", lease_times.len());
        assert_limit(lease_times, max, duration);
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn saturated_queue_reaches_its_rate_limit() {
    let fixture = TestQueue::with_settings(r#"{"rate_limit":{"max":40,"duration":"1s"}}"#);
    fixture.post_numbers(0..400).await;
    let lease_times = lease_during(&fixture, 9, Duration::from_secs(4)).await;
    assert_limit(lease_times.clone(), 40, 1_000);
    let first_lease_time = lease_times[0];
    let starts_in_three_seconds = lease_times.iter().filter(|start| **start < first_lease_time + 3_000).count();
    assert!(starts_in_three_seconds >= 114, "at least 95 % of 120: {starts_in_three_seconds}");
}

#[tokio::test]
async fn burst_is_leased_up_to_the_rate_limit_and_the_next_wake_up_is_when_the_window_opens() {
    let fixture = TestQueue::with_settings(r#"{"rate_limit":{"max":3,"duration":"2s"}}"#);
    fixture.post_numbers(0..10).await;
    let lease_reply = fixture.lease(10).await;
    assert_eq!(numbers(&lease_reply), [0, 1, 2]);
    let limited_lease_reply = fixture.lease(10).await;
    assert!(limited_lease_reply.deliveries.is_empty() && !limited_lease_reply.more_is_ready);
    let pause = limited_lease_reply.call_again_in.unwrap().as_millis();
    assert!((1_000..=2_000).contains(&pause), "{pause} ms");
    // A lease still counts towards the rate limit after its message was released or failed.
    fixture.settle(&lease_reply.deliveries[0], queue_core::Action::Release(None)).await;
    assert!(fixture.lease(10).await.deliveries.is_empty());
}

#[tokio::test]
async fn changed_rate_limit_applies_at_once_and_wakes_idle_consumers() {
    let fixture = TestQueue::with_settings("{}");
    fixture.post_numbers(0..200).await;
    let change_setting = async |patch| fixture.queue.configure(&patch).await.unwrap();
    change_setting(json!({"rate_limit": {"max": 50, "duration": "10s"}})).await;
    assert_eq!(fixture.lease(100).await.deliveries.len(), 50);
    // After the limit was lowered, earlier leases still count.
    change_setting(json!({"rate_limit": {"max": 20}})).await;
    assert!(fixture.lease(100).await.deliveries.is_empty());
    // After the limit was raised to 60, only ten more messages may be leased, because the 50 earlier leases count.
    change_setting(json!({"rate_limit": {"max": 60}})).await;
    assert_eq!(fixture.lease(100).await.deliveries.len(), 10);
    // After the window was shortened, the earlier leases are outside the window and do not count any more.
    crate::wait_millis(120).await;
    change_setting(json!({"rate_limit": {"max": 5, "duration": 100}})).await;
    assert_eq!(fixture.lease(100).await.deliveries.len(), 5);
    change_setting(json!({"rate_limit": null})).await;
    assert_eq!(fixture.lease(1_000).await.deliveries.len(), 135);
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:limiter"), ":0");
}

#[tokio::test]
async fn log_of_leases_under_a_large_rate_limit_stays_small_and_exact() {
    let fixture = TestQueue::with_settings(r#"{"rate_limit":{"max":10000,"duration":"1s"}}"#);
    for _ in 0..30 {
        fixture.queue.enqueue((0..1_000).map(crate::numbered_message).collect()).await.unwrap();
    }
    let mut lease_times: Vec<Timestamp> = Vec::new();
    let end_time = Instant::now() + Duration::from_millis(1_600);
    while Instant::now() < end_time {
        let lease_reply = fixture.lease(37).await;
        lease_times.extend(lease_reply.deliveries.iter().filter_map(|delivery| delivery.message.started_at));
        let settlements: Vec<_> = lease_reply
            .deliveries
            .into_iter()
            .map(|delivery| queue_core::Settlement { lease: delivery.lease, action: completion() })
            .collect();
        fixture.queue.settle(&settlements).await.unwrap();
        if let (false, Some(pause)) = (lease_reply.more_is_ready, lease_reply.call_again_in) {
            tokio::time::sleep(pause.min(Duration::from_millis(50))).await;
        }
    }
    assert_limit(lease_times.iter().map(|start| start.as_millis()).collect(), 10_000, 1_000);
    let entries: u32 = fixture.redis.command("LLEN drover:{q}:limiter")[1..].parse().unwrap();
    assert!(entries <= 1_001, "{entries} entries");
}
