//! The instant at which a message became ready, from which its age and its start delay count.

use queue_core::{Action, Delivery, Millis, NewMessage, Signal, State};

use crate::{World, delayed, failure, number, pass};

/// The time (ms) that a test waits before the operation that makes a message ready.
const WAIT: u64 = 400;

impl World {
    async fn oldest_waiting_age(&self) -> u64 {
        self.queue.status().await.unwrap().unwrap().oldest_waiting_age.expect("a message waits").get()
    }

    /// Leases the message at the head, and asserts that it became ready at `since` or later by Redis's clock.
    async fn take_ready_since(&self, since: u64, how: &str) -> Delivery {
        pass(20).await;
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
    let world = World::new();
    world.post(NewMessage { hold: Some("k".parse().unwrap()), ..number(1) }).await;
    pass(WAIT).await;
    let since = world.now();
    world.queue.signal(&"k".parse().unwrap(), &Signal::default()).await.unwrap();
    world.take_ready_since(since, "signalled").await;
    // A message that is held and delayed is ready when it is due.
    let posted = world.post(NewMessage { hold: Some("k".parse().unwrap()), ..delayed(2, WAIT) }).await;
    world.queue.signal(&"k".parse().unwrap(), &Signal::default()).await.unwrap();
    pass(WAIT).await;
    world.queue.maintain().await.unwrap();
    let delivery = world.take_ready_since(posted.due_at.as_millis(), "due").await;
    assert_eq!(delivery.ready_at, posted.due_at);
    world.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_promoted_message_is_its_promotion() {
    let world = World::with_settings(r#"{"backoff":{"type":"fixed","delay":"1h","jitter":0}}"#);
    let posted = world.post(delayed(1, 3_600_000)).await.id;
    pass(WAIT).await;
    let since = world.now();
    world.queue.promote(&posted).await.unwrap();
    let delivery = world.take_ready_since(since, "promoted").await;
    world.settle(&delivery, Action::Fail(failure())).await;
    assert_eq!(world.read(&posted).await.state, State::Delayed);
    pass(WAIT).await;
    let since = world.now();
    world.queue.promote(&posted).await.unwrap();
    world.take_ready_since(since, "promoted while it backed off").await;
    world.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_redelivered_message_is_its_return() {
    let world =
        World::with_settings(r#"{"visibility_timeout":2000,"backoff":{"type":"fixed","delay":200,"jitter":0}}"#);
    let posted = world.post(number(1)).await.id;
    pass(WAIT).await;
    let delivery = world.lease_one().await;
    let since = world.now();
    world.settle(&delivery, Action::Release(None)).await;
    let delivery = world.take_ready_since(since, "released").await;

    world.settle(&delivery, Action::Fail(failure())).await;
    let due = world.read(&posted).await.due_at;
    pass(WAIT).await;
    world.queue.maintain().await.unwrap();
    let delivery = world.take_ready_since(due.as_millis(), "after its back-off").await;
    assert_eq!(delivery.ready_at, due);

    pass(2_000).await;
    world.queue.maintain().await.unwrap();
    let lapsed = world.take_ready_since(delivery.lease_expires_at.as_millis(), "lapsed").await;
    assert_eq!(lapsed.ready_at, delivery.lease_expires_at);

    world.settle(&lapsed, Action::Release(Some(Millis::new(100)))).await;
    let due = world.read(&posted).await.due_at;
    pass(WAIT).await;
    world.queue.maintain().await.unwrap();
    assert_eq!(world.take_ready_since(due.as_millis(), "released with a pause").await.ready_at, due);
    world.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_manually_retried_message_is_its_retry() {
    let world = World::with_settings(r#"{"max_attempts":1}"#);
    let cancelled = world.post(number(1)).await.id;
    world.queue.cancel(&cancelled).await.unwrap();
    pass(WAIT).await;
    let since = world.now();
    world.queue.retry(&cancelled).await.unwrap();
    let delivery = world.take_ready_since(since, "cancelled before its start, and retried").await;
    world.settle(&delivery, Action::Fail(failure())).await;
    pass(WAIT).await;
    let since = world.now();
    assert_eq!(world.queue.retry_failed().await.unwrap(), 1);
    world.take_ready_since(since, "retried with all others").await;
    world.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_new_message_is_its_due_time_and_is_not_stored() {
    let world = World::new();
    let posted = world.post(number(1)).await;
    pass(50).await;
    assert_eq!(world.take_ready_since(posted.created_at.as_millis(), "posted").await.ready_at, posted.created_at);
    let posted = world.post(delayed(1, 50)).await;
    pass(100).await;
    world.queue.maintain().await.unwrap();
    assert_eq!(world.take_ready_since(posted.due_at.as_millis(), "due").await.ready_at, posted.due_at);
    assert_eq!(world.redis.command("EXISTS drover:{q}:options"), ":0");
}
