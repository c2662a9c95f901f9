//! Tests of the instant at which a message became ready, from which its age and its start delay count.

use queue_core::{Action, Delivery, Millis, NewMessage, Signal, State};

use crate::{TestQueue, delayed, failure, numbered, wait_millis};

/// The time (ms) that a test waits before the operation that makes a message ready.
const WAIT: u64 = 400;

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
        let ready = delivery.ready_at.as_millis();
        assert!((since..=now).contains(&ready), "{how}: ready at {ready}, not before {since}");
        delivery
    }

    /// Redis's time in ms.
    fn now(&self) -> u64 {
        let time = self.redis.command("TIME");
        let mut numbers =
            time.lines().filter(|line| !line.starts_with(['*', '$'])).map(|line| line.parse::<u64>().unwrap());
        numbers.next().unwrap() * 1_000 + numbers.next().unwrap() / 1_000
    }
}

#[tokio::test]
async fn ready_time_of_a_held_message_is_its_signal() {
    let fixture = TestQueue::new();
    fixture.post(NewMessage { hold: Some("k".parse().unwrap()), ..numbered(1) }).await;
    wait_millis(WAIT).await;
    let since = fixture.now();
    fixture.queue.signal(&"k".parse().unwrap(), &Signal::default()).await.unwrap();
    fixture.take_ready_since(since, "signalled").await;
    // A message that is held and delayed is ready when it is due.
    let posted = fixture.post(NewMessage { hold: Some("k".parse().unwrap()), ..delayed(2, WAIT) }).await;
    fixture.queue.signal(&"k".parse().unwrap(), &Signal::default()).await.unwrap();
    wait_millis(WAIT).await;
    fixture.queue.maintain().await.unwrap();
    let delivery = fixture.take_ready_since(posted.due_at.as_millis(), "due").await;
    assert_eq!(delivery.ready_at, posted.due_at);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_promoted_message_is_its_promotion() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":"1h","jitter":0}}"#);
    let posted = fixture.post(delayed(1, 3_600_000)).await.id;
    wait_millis(WAIT).await;
    let since = fixture.now();
    fixture.queue.promote(&posted).await.unwrap();
    let delivery = fixture.take_ready_since(since, "promoted").await;
    fixture.settle(&delivery, Action::Fail(failure())).await;
    assert_eq!(fixture.read(&posted).await.state, State::Delayed);
    wait_millis(WAIT).await;
    let since = fixture.now();
    fixture.queue.promote(&posted).await.unwrap();
    fixture.take_ready_since(since, "promoted while it backed off").await;
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_redelivered_message_is_its_return() {
    let fixture =
        TestQueue::with_settings(r#"{"visibility_timeout":2000,"backoff":{"type":"fixed","delay":200,"jitter":0}}"#);
    let posted = fixture.post(numbered(1)).await.id;
    wait_millis(WAIT).await;
    let delivery = fixture.lease_one().await;
    let since = fixture.now();
    fixture.settle(&delivery, Action::Release(None)).await;
    let delivery = fixture.take_ready_since(since, "released").await;

    fixture.settle(&delivery, Action::Fail(failure())).await;
    let due = fixture.read(&posted).await.due_at;
    wait_millis(WAIT).await;
    fixture.queue.maintain().await.unwrap();
    let delivery = fixture.take_ready_since(due.as_millis(), "after its back-off").await;
    assert_eq!(delivery.ready_at, due);

    wait_millis(2_000).await;
    fixture.queue.maintain().await.unwrap();
    let lapsed = fixture.take_ready_since(delivery.lease_expires_at.as_millis(), "lapsed").await;
    assert_eq!(lapsed.ready_at, delivery.lease_expires_at);

    fixture.settle(&lapsed, Action::Release(Some(Millis::new(100)))).await;
    let due = fixture.read(&posted).await.due_at;
    wait_millis(WAIT).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.take_ready_since(due.as_millis(), "released with a pause").await.ready_at, due);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_manually_retried_message_is_its_retry() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    let cancelled = fixture.post(numbered(1)).await.id;
    fixture.queue.cancel(&cancelled).await.unwrap();
    wait_millis(WAIT).await;
    let since = fixture.now();
    fixture.queue.retry(&cancelled).await.unwrap();
    let delivery = fixture.take_ready_since(since, "cancelled before its start, and retried").await;
    fixture.settle(&delivery, Action::Fail(failure())).await;
    wait_millis(WAIT).await;
    let since = fixture.now();
    assert_eq!(fixture.queue.retry_failed().await.unwrap(), 1);
    fixture.take_ready_since(since, "retried with all others").await;
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_new_message_is_its_due_time_and_is_not_stored() {
    let fixture = TestQueue::new();
    let posted = fixture.post(numbered(1)).await;
    wait_millis(50).await;
    assert_eq!(fixture.take_ready_since(posted.created_at.as_millis(), "posted").await.ready_at, posted.created_at);
    let posted = fixture.post(delayed(1, 50)).await;
    wait_millis(100).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.take_ready_since(posted.due_at.as_millis(), "due").await.ready_at, posted.due_at);
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:options"), ":0");
}
