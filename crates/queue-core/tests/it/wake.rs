//! Wake-ups: idle consumers are woken when a message becomes ready, and readers when it finishes.

use std::time::{Duration, Instant};

use queue_core::{Action, LeaseRequest, Millis, wakeup::Subscriber};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{World, delayed, done, name, number, pass};

const HOUR: Duration = Duration::from_secs(3_600);
/// The maximum lateness (ms) of work that has a timer, on a busy machine. Without a timer the work would wait an hour for the poll.
const MAX_LATENESS: u64 = 1_000;

/// A subscriber that runs until the test ends.
fn subscribed(world: &World) -> Subscriber {
    let subscriber = Subscriber::new(world.queues.redis().clone());
    let running = subscriber.clone();
    tokio::spawn(async move { running.run(CancellationToken::new()).await });
    subscriber
}

/// Waits as an idle consumer that polls once an hour. Returns the first delivery, and the number of lease calls until then.
async fn consume_one(world: &World, subscriber: &Subscriber) -> (queue_core::Delivery, u32) {
    let notifier = subscriber.notifier(&name());
    let mut calls = 0;
    loop {
        timeout(Duration::from_secs(10), notifier.woken(HOUR)).await.expect("the notifier wakes");
        calls += 1;
        let mut leased = match world.queue.lease(&world.request(1)).await {
            Err(queue_core::Error::NoSuchQueue) => continue,
            leased => leased.unwrap(),
        };
        if let Some(delivery) = leased.deliveries.pop() {
            return (delivery, calls);
        }
        if let Some(pause) = leased.call_again_in {
            notifier.wake_in(pause);
        }
    }
}

/// Waits until the subscription exists.
async fn until_subscribed(world: &World) {
    let subscribers = format!("PUBSUB NUMSUB drover:{{{}}}:wake", name());
    while !world.redis.command(&subscribers).contains(":1") {
        pass(5).await;
    }
}

#[tokio::test]
async fn an_idle_consumer_is_woken_by_a_new_message_and_by_an_earlier_due_time() {
    let world = World::new();
    let subscriber = subscribed(&world);
    let consumer = consume_one(&world, &subscriber);
    let producer = async {
        until_subscribed(&world).await;
        world.post(delayed(1, 60_000)).await;
        world.post(delayed(2, 30_000)).await;
        let due = world.post(delayed(3, 100)).await.due_at;
        (due, Instant::now())
    };
    let ((delivery, calls), (due, _)) = tokio::join!(consumer, producer);
    assert_eq!(delivery.message.data.get(), "3");
    let late = delivery.message.started_at.unwrap().since(due).get();
    assert!(delivery.message.started_at.unwrap() >= due && late <= MAX_LATENESS, "{late} ms late");
    assert!(calls <= 6, "no polling: {calls} calls");

    let (delivery, posted) = tokio::join!(consume_one(&world, &subscriber), async {
        pass(100).await;
        world.post(number(4)).await
    });
    assert_eq!(delivery.0.message.id, posted.id);
}

#[tokio::test]
async fn idle_consumer_recovers_the_lease_with_the_earliest_deadline_in_time() {
    let world = World::with_settings(r#"{"visibility_timeout":"1h"}"#);
    let subscriber = subscribed(&world);
    let notifier = subscriber.notifier(&name());
    until_subscribed(&world).await;
    notifier.woken(HOUR).await;
    world.post(number(1)).await;
    notifier.woken(Duration::from_secs(5)).await; // This consumer is notified of the message, but another one is faster.
    let short = LeaseRequest { visibility_timeout: Some(Millis::new(400)), ..world.request(1) };
    let taken = world.queue.lease(&short).await.unwrap().deliveries.remove(0);
    // This consumer has made no call since, so only the other consumer's lease call can have set its timer.
    timeout(Duration::from_secs(5), notifier.woken(HOUR)).await.expect("the notifier wakes");
    let recovered = world.lease_one().await;
    assert_eq!(recovered.message.id, taken.message.id);
    let late = recovered.message.started_at.unwrap().since(taken.lease_expires_at).get();
    assert!(late < MAX_LATENESS, "{late} ms after the deadline");

    // An extension to an earlier deadline also sends a notification.
    world.queue.extend(&[recovered.lease], Some(Millis::new(300))).await.unwrap();
    timeout(Duration::from_secs(5), notifier.woken(HOUR)).await.expect("the notifier wakes");
    assert_eq!(world.lease_one().await.message.lapses, 2);
}

#[tokio::test]
async fn a_reader_waits_for_the_result_without_polling() {
    let world = World::new();
    let subscriber = subscribed(&world);
    let posted = world.post(number(1)).await;
    let wait = world.queue.read_when_finished(&posted.id, Millis::from_secs(10), &subscriber);
    let work = async {
        pass(200).await;
        let delivery = world.lease_one().await;
        world.settle(&delivery, done()).await;
        Instant::now()
    };
    let (message, settled) = tokio::join!(async { (wait.await.unwrap().unwrap(), Instant::now()) }, work);
    assert_eq!(message.0.result.unwrap().get(), "\"done\"");
    assert!(
        message.1.duration_since(settled) < Duration::from_secs(5),
        "the reader is answered long before its wait is over"
    );
    assert_eq!(world.redis.command("EXISTS drover:{q}:awaited"), ":0", "the wait leaves no key");

    let unfinished = world.post(number(2)).await;
    let start = Instant::now();
    let message = world.queue.read_when_finished(&unfinished.id, Millis::new(100), &subscriber).await;
    assert!(!message.unwrap().unwrap().state.is_final());
    assert!((100..5_000).contains(&start.elapsed().as_millis()));
    let unknown = "21718923400017".parse().unwrap();
    assert!(world.queue.read_when_finished(&unknown, Millis::from_secs(10), &subscriber).await.unwrap().is_none());
}

#[tokio::test]
async fn all_readers_of_one_message_are_woken() {
    let world = World::new();
    let subscriber = subscribed(&world);
    let posted = world.post(number(1)).await;
    let waits = (0..50).map(|_| world.queue.read_when_finished(&posted.id, Millis::from_secs(10), &subscriber));
    let work = async {
        pass(100).await;
        let delivery = world.lease_one().await;
        world.settle(&delivery, Action::FailForGood(crate::failure())).await;
    };
    let (messages, ()) = tokio::join!(futures_util::future::join_all(waits), work);
    assert!(messages.into_iter().all(|message| message.unwrap().unwrap().state.is_final()));
}
