//! Tests that a lease keeps its visibility timeout and its timeout when the settings of the queue change.

use queue_core::{Extended, Millis, State};
use serde_json::json;

use crate::{TestQueue, connect, numbered_message, queue_name, wait_millis};

async fn extended_by(fixture: &TestQueue, delivery: &queue_core::Delivery, duration: Option<Millis>) -> u64 {
    let started_at = fixture.read(&delivery.message.id).await.started_at.unwrap();
    match fixture.queue.extend(std::slice::from_ref(&delivery.lease), duration).await.unwrap()[..] {
        [Extended::Until(deadline)] => deadline.since(started_at).get(),
        ref other => panic!("the lease was not extended: {other:?}"),
    }
}

#[tokio::test]
async fn shorter_visibility_timeout_applies_only_to_later_leases() {
    for exclusive in ["false", "true"] {
        let fixture = TestQueue::with_settings(&format!(r#"{{"visibility_timeout":"30s","exclusive":{exclusive}}}"#));
        fixture.post_numbers(0..2).await;
        let delivery = fixture.lease_one().await;
        fixture.queue.configure(&json!({"visibility_timeout": 1500})).await.unwrap();
        assert!(extended_by(&fixture, &delivery, None).await >= 30_000, "the lease is extended by its own duration");
        wait_millis(1_550).await;
        fixture.queue.maintain().await.unwrap();
        assert_eq!(fixture.read(&delivery.message.id).await.state, State::Active);
        if exclusive == "false" {
            let short_delivery = fixture.lease_one().await;
            assert!(extended_by(&fixture, &short_delivery, None).await < 30_000);
        }
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn process_that_declares_a_shorter_visibility_timeout_shortens_no_lease() {
    let fixture = TestQueue::new();
    fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    connect(&fixture.redis, r#"{"visibility_timeout":100}"#).queue(&queue_name()).declare().await.unwrap();
    assert!(extended_by(&fixture, &delivery, None).await >= 30_000);
    // An extension by more than the visibility timeout applies once. The next extension without a duration is again by the
    // visibility timeout of the lease.
    assert!(extended_by(&fixture, &delivery, Some(Millis::from_secs(90))).await >= 90_000);
    assert!(extended_by(&fixture, &delivery, None).await < 60_000);
}

#[tokio::test]
async fn shorter_timeout_applies_only_to_later_runs() {
    let fixture = TestQueue::with_settings(r#"{"timeout":"60s","max_attempts":1}"#);
    fixture.post_numbers(0..2).await;
    let long_delivery = fixture.lease_one().await;
    assert_eq!(long_delivery.timeout, Some(Millis::from_secs(60)));
    fixture.queue.configure(&json!({"timeout": 1500})).await.unwrap();
    let short_delivery = fixture.lease_one().await;
    assert_eq!(short_delivery.timeout, Some(Millis::new(1_500)));
    assert!(extended_by(&fixture, &long_delivery, None).await >= 30_000);
    assert!(extended_by(&fixture, &short_delivery, None).await < 3_000);
    wait_millis(2_050).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.read(&long_delivery.message.id).await.state, State::Active);
    let timed_out_message = fixture.read(&short_delivery.message.id).await;
    assert_eq!((timed_out_message.state, timed_out_message.error.unwrap().code.as_str()), (State::Failed, "timed_out"));
    // The queue has no timeout any more, but the run keeps the timeout with which it began.
    fixture.queue.configure(&json!({"timeout": null})).await.unwrap();
    assert!(extended_by(&fixture, &long_delivery, Some(Millis::from_hours(1))).await <= 60_500);
    fixture.assert_clean().await;
}
