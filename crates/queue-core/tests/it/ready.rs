//! Tests of the instant at which a message became ready, from which its age and its start delay count.

use queue_core::{Action, Delivery, Millis, NewMessage, Signal, State};

use crate::{TestQueue, failure, message_with_delay, numbered_message, wait_millis};

/// The time (ms) that a test waits before the operation that makes a message ready.
const WAIT_MS: u64 = 400;

impl TestQueue {
    async fn oldest_waiting_age(&self) -> u64 {
        self.queue.status().await.unwrap().unwrap().oldest_waiting_age.expect("a message waits").get()
    }

    /// Leases the message at the head, and asserts that it became ready at `since` or later by Redis's clock.
    async fn take_ready_since(&self, since: u64, how: &str) -> Delivery {
        wait_millis(20).await;
        let age = self.oldest_waiting_age().await;
        let now = self.now();
        assert!(age >= 20 && age <= now - since, "{how}: ready for {age} ms, at most {} can be", now - since);
        let delivery = self.lease_one().await;
        let ready_millis = delivery.ready_at.as_millis();
        assert!((since..=now).contains(&ready_millis), "{how}: ready at {ready_millis}, not before {since}");
        delivery
    }

    /// Returns the time by Redis's clock, in ms.
    fn now(&self) -> u64 {
        let time_reply = self.redis.command("TIME");
        let mut numbers =
            time_reply.lines().filter(|line| !line.starts_with(['*', '$'])).map(|line| line.parse::<u64>().unwrap());
        numbers.next().unwrap() * 1_000 + numbers.next().unwrap() / 1_000
    }
}

#[tokio::test]
async fn ready_time_of_a_held_message_is_its_signal() {
    let fixture = TestQueue::new();
    fixture.post(NewMessage { hold: Some("k".parse().unwrap()), ..numbered_message(1) }).await;
    wait_millis(WAIT_MS).await;
    let start_time = fixture.now();
    fixture.queue.signal(&"k".parse().unwrap(), &Signal::default()).await.unwrap();
    fixture.take_ready_since(start_time, "signalled").await;
    // A message that was held and delayed, and whose signal came before it was due, is ready when it is due.
    let posted_message =
        fixture.post(NewMessage { hold: Some("k".parse().unwrap()), ..message_with_delay(2, WAIT_MS) }).await;
    fixture.queue.signal(&"k".parse().unwrap(), &Signal::default()).await.unwrap();
    wait_millis(WAIT_MS).await;
    fixture.queue.maintain().await.unwrap();
    let delivery = fixture.take_ready_since(posted_message.due_at.as_millis(), "due").await;
    assert_eq!(delivery.ready_at, posted_message.due_at);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_promoted_message_is_its_promotion() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":"1h","jitter":0}}"#);
    let posted_id = fixture.post(message_with_delay(1, 3_600_000)).await.id;
    wait_millis(WAIT_MS).await;
    let start_time = fixture.now();
    fixture.queue.promote(&posted_id).await.unwrap();
    let delivery = fixture.take_ready_since(start_time, "promoted").await;
    fixture.settle(&delivery, Action::Fail(failure())).await;
    assert_eq!(fixture.read(&posted_id).await.state, State::Delayed);
    wait_millis(WAIT_MS).await;
    let start_time = fixture.now();
    fixture.queue.promote(&posted_id).await.unwrap();
    fixture.take_ready_since(start_time, "promoted while it backed off").await;
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_redelivered_message_is_its_return() {
    let fixture =
        TestQueue::with_settings(r#"{"visibility_timeout":2000,"backoff":{"type":"fixed","delay":200,"jitter":0}}"#);
    let posted_id = fixture.post(numbered_message(1)).await.id;
    wait_millis(WAIT_MS).await;
    let delivery = fixture.lease_one().await;
    let start_time = fixture.now();
    fixture.settle(&delivery, Action::Release(None)).await;
    let delivery = fixture.take_ready_since(start_time, "released").await;

    fixture.settle(&delivery, Action::Fail(failure())).await;
    let due_at = fixture.read(&posted_id).await.due_at;
    wait_millis(WAIT_MS).await;
    fixture.queue.maintain().await.unwrap();
    let delivery = fixture.take_ready_since(due_at.as_millis(), "after its back-off").await;
    assert_eq!(delivery.ready_at, due_at);

    wait_millis(2_000).await;
    fixture.queue.maintain().await.unwrap();
    let lapsed_delivery = fixture.take_ready_since(delivery.lease_expires_at.as_millis(), "lapsed").await;
    assert_eq!(lapsed_delivery.ready_at, delivery.lease_expires_at);

    fixture.settle(&lapsed_delivery, Action::Release(Some(Millis::new(100)))).await;
    let due_at = fixture.read(&posted_id).await.due_at;
    wait_millis(WAIT_MS).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.take_ready_since(due_at.as_millis(), "released with a pause").await.ready_at, due_at);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_manually_retried_message_is_its_retry() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    let cancelled_id = fixture.post(numbered_message(1)).await.id;
    fixture.queue.cancel(&cancelled_id).await.unwrap();
    wait_millis(WAIT_MS).await;
    let start_time = fixture.now();
    fixture.queue.retry(&cancelled_id).await.unwrap();
    let delivery = fixture.take_ready_since(start_time, "cancelled before its start, and retried").await;
    fixture.settle(&delivery, Action::Fail(failure())).await;
    wait_millis(WAIT_MS).await;
    let start_time = fixture.now();
    assert_eq!(fixture.queue.retry_failed().await.unwrap(), 1);
    fixture.take_ready_since(start_time, "retried with all failed messages").await;
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_new_message_is_its_due_time_and_is_not_stored() {
    let fixture = TestQueue::new();
    let posted_message = fixture.post(numbered_message(1)).await;
    wait_millis(50).await;
    assert_eq!(
        fixture.take_ready_since(posted_message.created_at.as_millis(), "posted").await.ready_at,
        posted_message.created_at
    );
    let posted_message = fixture.post(message_with_delay(1, 50)).await;
    wait_millis(100).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(
        fixture.take_ready_since(posted_message.due_at.as_millis(), "due").await.ready_at,
        posted_message.due_at
    );
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:options"), ":0");
}
