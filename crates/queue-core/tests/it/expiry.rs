//! Tests of messages with a time to live.

use queue_core::{Action, Changed, Millis, NewMessage, State};

use crate::{TestQueue, failure, message_with_priority, numbered_message, numbers, wait_millis};

fn message_with_ttl(data: u64, ttl_ms: u64) -> NewMessage {
    NewMessage { ttl: Some(Millis::new(ttl_ms).try_into().unwrap()), ..numbered_message(data) }
}

#[tokio::test]
async fn message_not_started_within_its_ttl_fails_as_expired_in_any_state() {
    let fixture = TestQueue::new();
    let hold = Some("k".parse().unwrap());
    let ids = [
        fixture.post(message_with_ttl(0, 50)).await.id,
        fixture
            .post(NewMessage { delay: Some(Millis::from_secs(60).try_into().unwrap()), ..message_with_ttl(1, 50) })
            .await
            .id,
        fixture.post(NewMessage { hold, ..message_with_ttl(2, 50) }).await.id,
        fixture
            .post(NewMessage { ttl: Some(Millis::new(50).try_into().unwrap()), ..message_with_priority(3, -1) })
            .await
            .id,
    ];
    let lasting_message = fixture.post(message_with_ttl(4, 60_000)).await;
    assert_eq!(lasting_message.expires_at.unwrap(), lasting_message.created_at + Millis::from_secs(60));
    wait_millis(60).await;
    assert_eq!(numbers(&fixture.lease(10).await), [4]);
    for id in &ids {
        let message = fixture.read(id).await;
        assert_eq!((message.state, message.attempts_made), (State::Failed, 0));
        assert_eq!(message.error.unwrap().code, "expired");
    }
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!((status.totals.expired, status.totals.failed), (4, 4));
    assert_eq!(status.counts.waiting + status.counts.held + status.counts.delayed, 0);
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:expiring"), ":0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn message_is_not_delivered_after_its_ttl_when_hundreds_have_expired() {
    let fixture = TestQueue::new();
    fixture.queue.enqueue((0..900).map(|n| message_with_ttl(n, 60)).collect()).await.unwrap();
    fixture.post(numbered_message(900)).await;
    wait_millis(70).await;
    let mut delivered_numbers = Vec::new();
    for _ in 0..20 {
        delivered_numbers.extend(numbers(&fixture.lease(300).await));
    }
    assert_eq!(delivered_numbers, [900]);
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.expired, 900);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn message_with_a_failed_attempt_does_not_expire_and_a_released_message_does() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":30,"jitter":0}}"#);
    let posted_message = fixture.post(message_with_ttl(1, 1_500)).await;
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, Action::Fail(failure())).await;
    wait_millis(1_550).await;
    let second_delivery = fixture.lease_one().await;
    assert_eq!(second_delivery.message.id, posted_message.id, "an attempt was made in time");
    fixture.complete(&second_delivery).await;

    let released_message = fixture.post(message_with_ttl(2, 1_500)).await;
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, Action::Release(None)).await;
    wait_millis(1_550).await;
    assert!(fixture.lease(1).await.deliveries.is_empty());
    assert_eq!(fixture.read(&released_message.id).await.error.unwrap().code, "expired");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn manual_retry_removes_the_ttl() {
    let fixture = TestQueue::new();
    let posted_message = fixture.post(message_with_ttl(1, 30)).await;
    fixture.post(numbered_message(2)).await;
    wait_millis(40).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.read(&posted_message.id).await.state, State::Failed);
    assert_eq!(fixture.queue.retry(&posted_message.id).await.unwrap(), Changed::Done);
    let message = fixture.read(&posted_message.id).await;
    assert_eq!((message.state, message.expires_at), (State::Waiting, None));
    assert_eq!(message.error.unwrap().code, "expired", "the last error is kept");
    assert_eq!(
        numbers(&fixture.lease(10).await),
        [2, 1],
        "the entry of the message was dropped at the head, so the message goes to the tail"
    );
    fixture.assert_clean().await;
}

#[tokio::test]
async fn a_run_that_outlives_its_timeout_is_a_failed_attempt_for_any_consumer() {
    let fixture =
        TestQueue::with_settings(r#"{"timeout":2000,"max_attempts":2,"backoff":{"type":"fixed","delay":10}}"#);
    let posted_message = fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    assert_eq!(delivery.timeout, Some(Millis::new(2_000)));
    let started_at = delivery.message.started_at.unwrap();
    assert_eq!(
        delivery.lease_expires_at,
        started_at + Millis::new(2_500),
        "the worker has half a second to report the timeout"
    );
    let extend_outcomes = fixture.queue.extend(std::slice::from_ref(&delivery.lease), None).await.unwrap();
    assert_eq!(
        extend_outcomes,
        [queue_core::Extended::Until(started_at + Millis::new(2_500))],
        "an extension does not pass the end of the run"
    );
    wait_millis(2_520).await;
    fixture.queue.maintain().await.unwrap();
    let message = fixture.read(&posted_message.id).await;
    assert_eq!((message.attempts_made, message.lapses), (1, 0));
    assert_eq!(message.error.unwrap().code, "timed_out");
    assert_eq!(fixture.complete(&delivery).await, None);
    // The timeout of a message replaces that of the queue.
    let message_with_timeout = fixture
        .post(NewMessage { timeout: Some(Millis::from_secs(9).try_into().unwrap()), ..numbered_message(2) })
        .await;
    wait_millis(20).await;
    let lease_reply = fixture.lease(10).await;
    let delivery =
        lease_reply.deliveries.iter().find(|delivery| delivery.message.id == message_with_timeout.id).unwrap();
    assert_eq!(delivery.timeout, Some(Millis::from_secs(9)));
    fixture.assert_clean().await;
}
