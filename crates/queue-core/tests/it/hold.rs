//! Held messages and signals.

use queue_core::{Changed, Millis, NewMessage, Signal, SignalKey, State};
use serde_json::value::{RawValue, to_raw_value};

use crate::{World, number, numbers, pass};

fn held(data: u64, key: &str) -> NewMessage {
    NewMessage { hold: Some(key.parse().unwrap()), ..number(data) }
}

fn key(key: &str) -> SignalKey {
    key.parse().unwrap()
}

fn with_data(data: &str) -> Signal {
    Signal { data: Some(to_raw_value(data).unwrap()), ..Signal::default() }
}

async fn signal(world: &World, name: &str) -> u64 {
    world.queue.signal(&key(name), &Signal::default()).await.unwrap()
}

#[tokio::test]
async fn held_messages_wait_for_the_signal_of_their_key_and_no_other() {
    let world = World::new();
    let first = world.post(held(0, "a")).await;
    assert_eq!((first.state, first.hold), (State::Held, Some(key("a"))));
    for (data, name) in [(1, "b"), (2, "a"), (3, "ab"), (4, "a")] {
        world.post(held(data, name)).await;
    }
    assert!(world.lease(10).await.deliveries.is_empty());
    assert_eq!(world.queue.status().await.unwrap().unwrap().counts.held, 5);
    assert_eq!(signal(&world, "a").await, 3);
    let leased = world.lease(10).await;
    assert_eq!(numbers(&leased), [0, 2, 4], "in the order posted");
    assert_eq!(leased.deliveries[0].message.hold, None);
    assert_eq!(signal(&world, "a").await, 0, "a repeated signal releases nothing");
    assert_eq!(signal(&world, "unknown-key").await, 0);
    world.post(held(5, "a")).await;
    assert!(
        world.lease(10).await.deliveries.is_empty(),
        "a signal releases only messages that are held when it is sent"
    );
    assert_eq!(world.queue.status().await.unwrap().unwrap().counts.held, 3);
    assert_eq!(world.queue.list(State::Held, 10, None).await.unwrap().messages.len(), 3);
    world.assert_clean().await;
}

#[tokio::test]
async fn handlers_and_readers_see_the_data_of_the_signal() {
    let world = World::new();
    let posted = world.post(held(1, "paid")).await;
    world.post(held(2, "other")).await;
    world.queue.signal(&key("paid"), &with_data("by card")).await.unwrap();
    signal(&world, "other").await;
    let leased = world.lease(10).await;
    let signals: Vec<Option<&str>> =
        leased.deliveries.iter().map(|delivery| delivery.message.signal.as_deref().map(RawValue::get)).collect();
    assert_eq!(signals, [Some("\"by card\""), None]);
    assert_eq!(world.read(&posted.id).await.signal.unwrap().get(), "\"by card\"");
    for delivery in &leased.deliveries {
        world.complete(delivery).await;
    }
    assert_eq!(world.queue.erase(&posted.id).await.unwrap(), Changed::Done);
    assert_eq!(world.redis.command("EXISTS drover:{q}:signalled"), ":0", "the key is forgotten with the message");
}

#[tokio::test]
async fn sticky_signal_releases_later_messages_until_it_expires() {
    let world = World::new();
    let sticky = Signal { sticky_for: Some(Millis::new(1_500).try_into().unwrap()), ..with_data("open") };
    assert_eq!(
        world.queue.signal(&key("gate"), &sticky).await.unwrap(),
        0,
        "a signal may be sent before there is a queue"
    );
    let passed = world.post(held(1, "gate")).await;
    assert_eq!((passed.state, passed.hold), (State::Waiting, None));
    assert_eq!(passed.signal.unwrap().get(), "\"open\"");
    let later = NewMessage { delay: Some(Millis::new(50).try_into().unwrap()), ..held(2, "gate") };
    assert_eq!(world.post(later).await.state, State::Delayed);
    assert_eq!(world.post(held(3, "fence")).await.state, State::Held);
    pass(1_510).await;
    assert_eq!(world.post(held(4, "gate")).await.state, State::Held);
    assert_eq!(numbers(&world.lease(10).await), [1, 2]);
    world.queue.maintain().await.unwrap();
    assert_eq!(
        world.redis.command("EXISTS drover:{q}:sticky drover:{q}:sticky_until"),
        ":0",
        "the sticky signal leaves no key"
    );
    world.assert_clean().await;
}

#[tokio::test]
async fn a_held_message_that_is_delayed_too_becomes_delayed() {
    let world = World::new();
    let posted = world.post(NewMessage { delay: Some(Millis::new(1_500).try_into().unwrap()), ..held(1, "k") }).await;
    assert_eq!(posted.state, State::Held);
    assert_eq!(signal(&world, "k").await, 1);
    let message = world.read(&posted.id).await;
    assert_eq!((message.state, message.due_at), (State::Delayed, posted.due_at));
    pass(1_510).await;
    let delivery = world.lease_one().await;
    assert!(delivery.message.started_at.unwrap() >= posted.due_at, "never early");
}

#[tokio::test]
async fn held_messages_can_be_cancelled_erased_and_purged() {
    let world = World::new();
    let mut ids = Vec::new();
    for n in 0..6 {
        let delay = (n % 2 == 1).then(|| Millis::from_secs(60).try_into().unwrap());
        ids.push(world.post(NewMessage { delay, ..held(n, "k") }).await.id);
    }
    assert_eq!(world.queue.cancel(&ids[0]).await.unwrap(), Changed::Done);
    assert_eq!(world.queue.cancel(&ids[1]).await.unwrap(), Changed::Done);
    assert_eq!(world.read(&ids[0]).await.error.unwrap().code, "cancelled");
    assert_eq!(world.queue.erase(&ids[2]).await.unwrap(), Changed::Done);
    assert_eq!(world.queue.erase(&ids[3]).await.unwrap(), Changed::Done);
    assert_eq!(world.queue.promote(&ids[4]).await.unwrap(), Changed::Refused(State::Held));
    assert_eq!(world.queue.purge(State::Held).await.unwrap(), 2);
    assert_eq!(signal(&world, "k").await, 0);
    // A message that was cancelled while held is ready when it is retried, because its signal may have been sent already.
    assert_eq!(world.queue.retry(&ids[0]).await.unwrap(), Changed::Done);
    assert_eq!(numbers(&world.lease(10).await), [0]);
    world.assert_clean().await;
}

#[tokio::test]
async fn interrupted_signal_is_continued_and_later_signals_wait_for_it() {
    let world = World::new();
    for _ in 0..3 {
        world.queue.enqueue((0..1_000).map(|n| held(n, "k")).collect()).await.unwrap();
    }
    // Redis now contains what a process leaves that stored its signal and then died.
    let seq = world.redis.command("GET drover:{q}:seq").split("\r\n").nth(1).unwrap().to_owned();
    world.redis.command(&format!("HSET drover:{{q}}:signals k \"{seq}\\t1\""));
    world.post(held(7, "k")).await;
    // This signal first releases the rest of the first signal's messages, then those that were posted between the two signals.
    assert_eq!(world.queue.signal(&key("k"), &with_data("second")).await.unwrap(), 1);
    let status = world.queue.status().await.unwrap().unwrap();
    assert_eq!((status.counts.held, status.counts.waiting), (0, 3_001));
    let mut data = Vec::new();
    for _ in 0..4 {
        for delivery in world.lease(1_000).await.deliveries {
            data.push(delivery.message.signal.unwrap().get().to_owned());
        }
    }
    assert_eq!(data.iter().filter(|data| *data == "1").count(), 3_000);
    assert_eq!(data.last().unwrap(), "\"second\"");

    // Maintenance also continues an unfinished signal.
    for _ in 0..2 {
        world.queue.enqueue((0..1_000).map(|n| held(n, "j")).collect()).await.unwrap();
    }
    let seq = world.redis.command("GET drover:{q}:seq").split("\r\n").nth(1).unwrap().to_owned();
    world.redis.command(&format!("HSET drover:{{q}}:signals j \"{seq}\\t\""));
    while world.queue.maintain().await.unwrap() == Some(std::time::Duration::ZERO) {}
    assert_eq!(world.queue.status().await.unwrap().unwrap().counts.waiting, 2_000);
    assert_eq!(world.redis.command("EXISTS drover:{q}:signals"), ":0");
    world.assert_clean().await;
}

#[tokio::test]
async fn a_signal_that_was_not_written_by_drover_stops_nothing() {
    let world = World::new();
    world.post(held(1, "k")).await;
    world.redis.command("HSET drover:{q}:signals k garbage");
    world.queue.maintain().await.unwrap();
    assert_eq!(world.redis.command("EXISTS drover:{q}:signals"), ":0");
    assert_eq!(signal(&world, "k").await, 1);
}
