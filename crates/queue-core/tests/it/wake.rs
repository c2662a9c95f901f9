//! Tests of wake-ups: idle consumers are woken when a message becomes ready, and readers when a message has finished.

use std::time::{Duration, Instant};

use queue_core::{Action, LeaseRequest, Millis, wakeup::Subscriber};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{TestQueue, completion, message_with_delay, numbered_message, queue_name, wait_millis};

const ONE_HOUR: Duration = Duration::from_secs(3_600);
/// The maximum lateness (ms) of work that has a timer, on a busy machine. Without a timer the work would wait an hour for the poll.
const MAX_LATENESS_MS: u64 = 1_000;

/// A subscriber that runs until the test ends.
fn start_subscriber(fixture: &TestQueue) -> Subscriber {
    let subscriber = Subscriber::new(fixture.queues.redis().clone());
    let running_subscriber = subscriber.clone();
    tokio::spawn(async move { running_subscriber.run(CancellationToken::new()).await });
    subscriber
}

/// Waits as an idle consumer that polls once an hour. Returns the first delivery, and the number of lease calls until then.
async fn consume_one(fixture: &TestQueue, subscriber: &Subscriber) -> (queue_core::Delivery, u32) {
    let notifier = subscriber.notifier(&queue_name());
    let mut calls = 0;
    loop {
        timeout(Duration::from_secs(10), notifier.woken(ONE_HOUR)).await.expect("the notifier wakes its consumer");
        calls += 1;
        let mut lease_reply = match fixture.queue.lease(&fixture.request(1)).await {
            Err(queue_core::Error::NoSuchQueue) => continue,
            lease_reply => lease_reply.unwrap(),
        };
        if let Some(delivery) = lease_reply.deliveries.pop() {
            return (delivery, calls);
        }
        if let Some(pause) = lease_reply.call_again_in {
            notifier.wake_in(pause);
        }
    }
}

/// Waits until the subscriber has subscribed in Redis.
async fn wait_until_subscribed(fixture: &TestQueue) {
    let subscribers = format!("PUBSUB NUMSUB drover:{{{}}}:wake", queue_name());
    while !fixture.redis.command(&subscribers).contains(":1") {
        wait_millis(5).await;
    }
}

#[tokio::test]
async fn an_idle_consumer_is_woken_by_a_new_message_and_by_an_earlier_due_time() {
    let fixture = TestQueue::new();
    let subscriber = start_subscriber(&fixture);
    let consumer = consume_one(&fixture, &subscriber);
    let producer = async {
        wait_until_subscribed(&fixture).await;
        fixture.post(message_with_delay(1, 60_000)).await;
        fixture.post(message_with_delay(2, 30_000)).await;
        let due_at = fixture.post(message_with_delay(3, 100)).await.due_at;
        (due_at, Instant::now())
    };
    let ((delivery, calls), (due_at, _)) = tokio::join!(consumer, producer);
    assert_eq!(delivery.message.data.get(), "3");
    let start_delay = delivery.message.started_at.unwrap().since(due_at).get();
    assert!(delivery.message.started_at.unwrap() >= due_at && start_delay <= MAX_LATENESS_MS, "{start_delay} ms late");
    assert!(calls <= 6, "no polling: {calls} calls");

    let (delivery, posted) = tokio::join!(consume_one(&fixture, &subscriber), async {
        wait_millis(100).await;
        fixture.post(numbered_message(4)).await
    });
    assert_eq!(delivery.0.message.id, posted.id);
}

#[tokio::test]
async fn idle_consumer_recovers_the_lease_with_the_earliest_deadline_in_time() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"1h"}"#);
    let subscriber = start_subscriber(&fixture);
    let notifier = subscriber.notifier(&queue_name());
    wait_until_subscribed(&fixture).await;
    notifier.woken(ONE_HOUR).await;
    fixture.post(numbered_message(1)).await;
    notifier.woken(Duration::from_secs(5)).await; // The idle consumer is notified of the message, but another consumer is faster.
    let short_lease_request = LeaseRequest { visibility_timeout: Some(Millis::new(400)), ..fixture.request(1) };
    let short_delivery = fixture.queue.lease(&short_lease_request).await.unwrap().deliveries.remove(0);
    // Since the message was posted, only the other consumer has made a lease call. This lease call must have set the timer that
    // wakes the idle consumer.
    timeout(Duration::from_secs(5), notifier.woken(ONE_HOUR)).await.expect("the notifier wakes its consumer");
    let recovered_delivery = fixture.lease_one().await;
    assert_eq!(recovered_delivery.message.id, short_delivery.message.id);
    let start_delay = recovered_delivery.message.started_at.unwrap().since(short_delivery.lease_expires_at).get();
    assert!(start_delay < MAX_LATENESS_MS, "{start_delay} ms after the deadline");

    // An extension to an earlier deadline also sends a notification.
    fixture.queue.extend(&[recovered_delivery.lease], Some(Millis::new(300))).await.unwrap();
    timeout(Duration::from_secs(5), notifier.woken(ONE_HOUR)).await.expect("the notifier wakes its consumer");
    assert_eq!(fixture.lease_one().await.message.lapses, 2);
}

#[tokio::test]
async fn client_waits_for_the_result_of_a_message_without_polling() {
    let fixture = TestQueue::new();
    let subscriber = start_subscriber(&fixture);
    let posted_message = fixture.post(numbered_message(1)).await;
    let result_wait = fixture.queue.read_when_finished(&posted_message.id, Millis::from_secs(10), &subscriber);
    let complete_message = async {
        wait_millis(200).await;
        let delivery = fixture.lease_one().await;
        fixture.settle(&delivery, completion()).await;
        Instant::now()
    };
    let (message, settled) =
        tokio::join!(async { (result_wait.await.unwrap().unwrap(), Instant::now()) }, complete_message);
    assert_eq!(message.0.result.unwrap().get(), "\"done\"");
    assert!(
        message.1.duration_since(settled) < Duration::from_secs(5),
        "the reader is answered long before its wait is over"
    );
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:awaited"), ":0", "the wait leaves no key");

    let unfinished_message = fixture.post(numbered_message(2)).await;
    let start = Instant::now();
    let message = fixture.queue.read_when_finished(&unfinished_message.id, Millis::new(100), &subscriber).await;
    assert!(!message.unwrap().unwrap().state.is_final());
    assert!((100..5_000).contains(&start.elapsed().as_millis()));
    let unknown_id = "21718923400017".parse().unwrap();
    assert!(fixture.queue.read_when_finished(&unknown_id, Millis::from_secs(10), &subscriber).await.unwrap().is_none());
}

#[tokio::test]
async fn all_clients_that_wait_for_one_message_are_woken() {
    let fixture = TestQueue::new();
    let subscriber = start_subscriber(&fixture);
    let posted_message = fixture.post(numbered_message(1)).await;
    let result_waits =
        (0..50).map(|_| fixture.queue.read_when_finished(&posted_message.id, Millis::from_secs(10), &subscriber));
    let complete_message = async {
        wait_millis(100).await;
        let delivery = fixture.lease_one().await;
        fixture.settle(&delivery, Action::FailForGood(crate::failure())).await;
    };
    let (messages, ()) = tokio::join!(futures_util::future::join_all(result_waits), complete_message);
    assert!(messages.into_iter().all(|message| message.unwrap().unwrap().state.is_final()));
}
