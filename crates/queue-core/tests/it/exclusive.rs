//! Tests of exclusive queues: one consumer at a time, order, and changes of the owner.

use std::sync::Arc;

use queue_core::{Action, ConsumerId, Delivery, LeaseRequest, Leased, Millis};
use serde_json::json;

use crate::{TestQueue, completion, failure, numbered_message, numbers, wait_millis};

async fn lease_as(fixture: &TestQueue, consumer: &ConsumerId, max: usize) -> Leased {
    fixture.queue.lease(&LeaseRequest { consumer: consumer.clone(), ..fixture.request(max) }).await.unwrap()
}

fn two_consumers() -> (ConsumerId, ConsumerId) {
    (ConsumerId::issue(), ConsumerId::issue())
}

#[tokio::test]
async fn only_one_consumer_leases_from_an_exclusive_queue_and_only_one_message_at_a_time() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true}"#);
    fixture.post_numbers(0..5).await;
    let (first_consumer, second_consumer) = two_consumers();
    let mut lease_reply = lease_as(&fixture, &first_consumer, 10).await;
    assert_eq!(numbers(&lease_reply), [0]);
    assert!(!lease_reply.more_is_ready, "no other message may be leased before this lease has ended");
    assert!(lease_as(&fixture, &first_consumer, 10).await.deliveries.is_empty());
    assert!(lease_as(&fixture, &second_consumer, 10).await.deliveries.is_empty());
    fixture.complete(&lease_reply.deliveries[0]).await;
    assert!(lease_as(&fixture, &second_consumer, 10).await.deliveries.is_empty(), "the owner stays the owner");
    lease_reply = lease_as(&fixture, &first_consumer, 10).await;
    assert_eq!(numbers(&lease_reply), [1]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn another_consumer_may_lease_at_once_when_the_owner_of_an_exclusive_queue_ends_its_ownership() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true}"#);
    fixture.post_numbers(0..5).await;
    let (first_consumer, second_consumer) = two_consumers();
    let first_lease_reply = lease_as(&fixture, &first_consumer, 1).await;
    fixture.queue.end_ownership(&first_consumer).await.unwrap();
    assert!(
        lease_as(&fixture, &second_consumer, 1).await.deliveries.is_empty(),
        "no access while a lease of the first consumer is live"
    );
    fixture.settle(&first_lease_reply.deliveries[0], Action::Release(None)).await;
    assert_eq!(numbers(&lease_as(&fixture, &second_consumer, 1).await), [0]);
    assert!(lease_as(&fixture, &first_consumer, 1).await.deliveries.is_empty());
    // A consumer that is not the owner changes nothing when it ends its ownership.
    fixture.queue.end_ownership(&first_consumer).await.unwrap();
    assert!(lease_as(&fixture, &first_consumer, 1).await.deliveries.is_empty());
}

#[tokio::test]
async fn another_consumer_may_lease_when_all_leases_of_a_dead_owner_have_lapsed() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":{"parallel":3},"visibility_timeout":2000}"#);
    fixture.post_numbers(0..5).await;
    let (first_consumer, second_consumer) = two_consumers();
    let leases_of_first = lease_as(&fixture, &first_consumer, 10).await;
    assert_eq!(numbers(&leases_of_first), [0, 1, 2]);
    wait_millis(1_200).await;
    // The owner extends one of its three leases, so that this lease stays live.
    fixture.queue.extend(&[leases_of_first.deliveries[1].lease.clone()], None).await.unwrap();
    wait_millis(1_000).await;
    let early_lease_reply = lease_as(&fixture, &second_consumer, 10).await;
    assert!(early_lease_reply.deliveries.is_empty());
    assert!(
        early_lease_reply.call_again_in.unwrap().as_millis() <= 1_200,
        "the consumer calls again when the last lease lapses"
    );
    wait_millis(1_200).await;
    let taken_over = lease_as(&fixture, &second_consumer, 10).await;
    assert_eq!(numbers(&taken_over), [0, 1, 2], "the order of posting is kept");
    assert_eq!(fixture.complete(&leases_of_first.deliveries[0]).await, None);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn owner_of_an_exclusive_queue_that_stops_leasing_is_replaced() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true,"visibility_timeout":1500}"#);
    let (first_consumer, second_consumer) = two_consumers();
    fixture.queue.declare().await.unwrap();
    assert!(lease_as(&fixture, &first_consumer, 1).await.deliveries.is_empty());
    fixture.post(numbered_message(1)).await;
    let early_lease_reply = lease_as(&fixture, &second_consumer, 1).await;
    assert!(early_lease_reply.deliveries.is_empty());
    assert!(early_lease_reply.call_again_in.unwrap().as_millis() <= 1_500);
    wait_millis(1_510).await;
    assert_eq!(numbers(&lease_as(&fixture, &second_consumer, 1).await), [1]);
}

#[tokio::test]
async fn consumer_that_leases_once_owns_the_queue_only_during_its_leases() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true}"#);
    fixture.post_numbers(0..3).await;
    for n in 0..3 {
        let request = LeaseRequest::new(ConsumerId::issue(), 5).without_owner_timeout();
        let lease_reply = fixture.queue.lease(&request).await.unwrap();
        assert_eq!(numbers(&lease_reply), [n]);
        assert!(lease_as(&fixture, &ConsumerId::issue(), 1).await.deliveries.is_empty());
        fixture.complete(&lease_reply.deliveries[0]).await;
    }
}

#[tokio::test]
async fn message_in_back_off_blocks_an_exclusive_queue_and_keeps_its_position() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true,"backoff":{"type":"fixed","delay":1000,"jitter":0}}"#);
    fixture.post_numbers(0..3).await;
    let first_delivery = fixture.lease_one().await;
    fixture.settle(&first_delivery, Action::Fail(failure())).await;
    let blocked_lease_reply = fixture.lease(1).await;
    assert!(blocked_lease_reply.deliveries.is_empty() && !blocked_lease_reply.more_is_ready);
    assert!(blocked_lease_reply.call_again_in.unwrap().as_millis() <= 1_000);
    wait_millis(1_010).await;
    let second_delivery = fixture.lease_one().await;
    assert_eq!(second_delivery.message.id, first_delivery.message.id);
    // A failure with a pause that the handler chose, and a release with a pause, block an exclusive queue, too.
    fixture.settle(&second_delivery, Action::FailAndRetryAfter(failure(), Millis::new(1_000))).await;
    assert!(fixture.lease(1).await.deliveries.is_empty());
    wait_millis(1_010).await;
    let second_delivery = fixture.lease_one().await;
    fixture.settle(&second_delivery, Action::Release(Some(Millis::from_secs(60)))).await;
    assert!(fixture.lease(1).await.deliveries.is_empty());
    // Promoting or cancelling the message unblocks the queue.
    fixture.queue.promote(&first_delivery.message.id).await.unwrap();
    let second_delivery = fixture.lease_one().await;
    assert_eq!(second_delivery.message.id, first_delivery.message.id);
    fixture.settle(&second_delivery, Action::Release(Some(Millis::from_secs(60)))).await;
    fixture.queue.cancel(&first_delivery.message.id).await.unwrap();
    assert_eq!(numbers(&fixture.lease(1).await), [1]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn exclusive_queue_keeps_its_order_with_parallel_messages_and_retried_dead_letters() {
    let backoff = r#"{"exclusive":true,"max_attempts":2,"backoff":{"type":"fixed","delay":60000}}"#;
    let fixture = TestQueue::with_settings(backoff);
    fixture.post_numbers(0..4).await;
    let dead_letter = fixture.lease_one().await;
    fixture.settle(&dead_letter, Action::FailForGood(failure())).await;
    let first_delivery = fixture.lease_one().await;
    fixture.settle(&first_delivery, Action::Fail(failure())).await;
    // No message overtakes a message in back-off, even when the owner may work on more messages at a time.
    fixture.queue.configure(&json!({"exclusive": {"parallel": 2}})).await.unwrap();
    assert!(fixture.lease(5).await.deliveries.is_empty());
    // A dead letter that is retried goes behind messages whose back-off ends.
    fixture.queue.retry(&dead_letter.message.id).await.unwrap();
    fixture.queue.promote(&first_delivery.message.id).await.unwrap();
    let lease_reply = fixture.lease(5).await;
    assert_eq!(numbers(&lease_reply), [1, 2]);
    fixture.settle(&lease_reply.deliveries[1], Action::Release(None)).await;
    fixture.settle(&lease_reply.deliveries[0], Action::Release(None)).await;
    assert_eq!(
        numbers(&fixture.lease(5).await),
        [1, 2],
        "the messages keep the order of posting, whatever the order of their releases"
    );
    fixture.assert_clean().await;
}

#[tokio::test]
async fn promoted_message_that_backed_off_keeps_its_position_in_the_order_of_posting() {
    let settings = r#"{"exclusive":{"parallel":2},"backoff":{"type":"fixed","delay":60000}}"#;
    let fixture = TestQueue::with_settings(settings);
    fixture.post_numbers(0..3).await;
    let deliveries = fixture.lease(2).await.deliveries;
    for delivery in &deliveries {
        fixture.settle(delivery, Action::Fail(failure())).await;
    }
    for delivery in &deliveries {
        fixture.queue.promote(&delivery.message.id).await.unwrap();
    }
    assert_eq!(numbers(&fixture.lease(2).await), [0, 1]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn delayed_message_does_not_block_an_exclusive_queue() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true}"#);
    fixture.post(crate::message_with_delay(0, 60_000)).await;
    fixture.post(numbered_message(1)).await;
    assert_eq!(numbers(&fixture.lease(1).await), [1]);
}

#[tokio::test]
async fn queue_that_becomes_exclusive_waits_for_all_current_leases() {
    let fixture = TestQueue::with_settings("{}");
    fixture.post_numbers(0..4).await;
    let (first_consumer, second_consumer) = two_consumers();
    let leases_of_first = lease_as(&fixture, &first_consumer, 1).await;
    let leases_of_second = lease_as(&fixture, &second_consumer, 1).await;
    fixture.queue.configure(&json!({"exclusive": true})).await.unwrap();
    assert!(lease_as(&fixture, &first_consumer, 1).await.deliveries.is_empty());
    fixture.complete(&leases_of_first.deliveries[0]).await;
    assert!(
        lease_as(&fixture, &first_consumer, 1).await.deliveries.is_empty(),
        "the lease of the other consumer is live"
    );
    fixture.complete(&leases_of_second.deliveries[0]).await;
    assert_eq!(numbers(&lease_as(&fixture, &first_consumer, 1).await), [2]);
    fixture.queue.configure(&json!({"exclusive": null})).await.unwrap();
    assert_eq!(numbers(&lease_as(&fixture, &second_consumer, 1).await), [3]);
}

/// Returns the time by Redis's clock, in ms.
fn redis_millis(fixture: &TestQueue) -> u64 {
    let time_reply = fixture.redis.command("TIME");
    let mut numbers = time_reply.lines().filter_map(|line| line.parse::<u64>().ok());
    let (seconds, micros) = (numbers.next().unwrap(), numbers.next().unwrap());
    seconds * 1_000 + micros / 1_000
}

/// Leases messages, keeps each lease for a moment, and ends each lease in a random way. Returns for each lease the consumer, the
/// start, the end, and the number of the message.
async fn consume_at_random(fixture: Arc<TestQueue>, until: tokio::time::Instant) -> Vec<(ConsumerId, u64, u64, u64)> {
    let mut lease_times = Vec::new();
    while tokio::time::Instant::now() < until {
        let consumer = ConsumerId::issue();
        for _ in 0..rand::random_range(1..8) {
            let lease_reply = lease_as(&fixture, &consumer, 5).await;
            let deliveries: Vec<Delivery> = lease_reply.deliveries;
            assert!(deliveries.len() <= 1);
            for delivery in deliveries {
                let run_start = delivery.message.started_at.unwrap().as_millis();
                wait_millis(rand::random_range(0..15)).await;
                let number = delivery.message.data.get().parse().unwrap();
                let (action, completed) = match rand::random_range(0..10) {
                    // The consumer dies before it settles the lease.
                    0 => {
                        lease_times.push((consumer.clone(), run_start, delivery.lease_expires_at.as_millis(), number));
                        continue;
                    }
                    1 => (Action::Fail(failure()), None),
                    2 => (Action::Release(None), None),
                    _ => (completion(), Some(number)),
                };
                // `lease_end` is an instant at which the lease has not ended yet, or the deadline of the lease if the
                // deadline has passed.
                let lease_end = redis_millis(&fixture).min(delivery.lease_expires_at.as_millis());
                fixture.settle(&delivery, action).await;
                lease_times.push((consumer.clone(), run_start, lease_end, completed.unwrap_or(u64::MAX)));
            }
            wait_millis(rand::random_range(0..5)).await;
        }
        if rand::random_bool(0.7) {
            fixture.queue.end_ownership(&consumer).await.unwrap();
        }
    }
    lease_times
}

#[tokio::test]
async fn live_leases_of_two_consumers_never_overlap_and_order_is_kept() {
    let settings = r#"{"exclusive":true,"visibility_timeout":100,"max_attempts":50,"max_lapses":50,
                       "backoff":{"type":"fixed","delay":5}}"#;
    let fixture = Arc::new(TestQueue::with_settings(settings));
    for thousand in 0..2 {
        fixture.post_numbers(thousand * 1_000..(thousand + 1) * 1_000).await;
    }
    let end_time = tokio::time::Instant::now() + std::time::Duration::from_secs(4);
    let consumers: Vec<_> = (0..6).map(|_| tokio::spawn(consume_at_random(Arc::clone(&fixture), end_time))).collect();
    let mut lease_times = Vec::new();
    for consumer in consumers {
        lease_times.extend(consumer.await.unwrap());
    }
    lease_times.sort_by_key(|(_, lease_start, _, _)| *lease_start);
    for (i, (consumer, lease_start, lease_end, _)) in lease_times.iter().enumerate() {
        for (other_consumer, other_start, _, _) in &lease_times[i + 1..] {
            assert!(
                other_start >= lease_end || other_consumer == consumer,
                "{other_consumer} at {other_start}, {consumer} from {lease_start} to {lease_end}"
            );
        }
    }
    let page = fixture.queue.list(queue_core::State::Completed, 1_000, None).await.unwrap();
    let mut completed_numbers: Vec<u64> =
        page.messages.iter().map(|message| message.data.get().parse().unwrap()).collect();
    completed_numbers.reverse();
    assert!(completed_numbers.len() > 20, "{} completed", completed_numbers.len());
    assert_eq!(
        completed_numbers,
        (0..completed_numbers.len() as u64).collect::<Vec<_>>(),
        "the order of posting is kept"
    );
    fixture.assert_clean().await;
}
