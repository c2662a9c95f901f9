//! Tests of held messages and of the signals that release them.

use queue_core::{Changed, Millis, NewMessage, Signal, SignalKey, State};
use serde_json::value::{RawValue, to_raw_value};

use crate::{TestQueue, numbered_message, numbers, wait_millis};

fn message_with_hold_key(data: u64, key: &str) -> NewMessage {
    NewMessage { hold: Some(key.parse().unwrap()), ..numbered_message(data) }
}

fn signal_key(key: &str) -> SignalKey {
    key.parse().unwrap()
}

fn signal_with_data(data: &str) -> Signal {
    Signal { data: Some(to_raw_value(data).unwrap()), ..Signal::default() }
}

async fn send_signal(fixture: &TestQueue, name: &str) -> u64 {
    fixture.queue.signal(&signal_key(name), &Signal::default()).await.unwrap().released
}

#[tokio::test]
async fn held_messages_wait_for_the_signal_of_their_key_and_no_other() {
    let fixture = TestQueue::new();
    let first_message = fixture.post(message_with_hold_key(0, "a")).await;
    assert_eq!((first_message.state, first_message.hold), (State::Held, Some(signal_key("a"))));
    for (data, name) in [(1, "b"), (2, "a"), (3, "ab"), (4, "a")] {
        fixture.post(message_with_hold_key(data, name)).await;
    }
    assert!(fixture.lease(10).await.deliveries.is_empty());
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.held, 5);
    assert_eq!(send_signal(&fixture, "a").await, 3);
    let lease_reply = fixture.lease(10).await;
    assert_eq!(numbers(&lease_reply), [0, 2, 4], "messages are released in the order posted");
    assert_eq!(lease_reply.deliveries[0].message.hold, None);
    assert_eq!(send_signal(&fixture, "a").await, 0, "a repeated signal releases nothing");
    assert_eq!(send_signal(&fixture, "unknown-key").await, 0);
    fixture.post(message_with_hold_key(5, "a")).await;
    assert!(
        fixture.lease(10).await.deliveries.is_empty(),
        "a signal releases only messages that are held when the signal is sent"
    );
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.held, 3);
    assert_eq!(fixture.queue.list(State::Held, 10, None).await.unwrap().messages.len(), 3);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn handlers_and_readers_see_the_data_of_the_signal() {
    let fixture = TestQueue::new();
    let posted_message = fixture.post(message_with_hold_key(1, "paid")).await;
    fixture.post(message_with_hold_key(2, "other")).await;
    fixture.queue.signal(&signal_key("paid"), &signal_with_data("by card")).await.unwrap();
    send_signal(&fixture, "other").await;
    let lease_reply = fixture.lease(10).await;
    let signals: Vec<Option<&str>> =
        lease_reply.deliveries.iter().map(|delivery| delivery.message.signal.as_deref().map(RawValue::get)).collect();
    assert_eq!(signals, [Some("\"by card\""), None]);
    assert_eq!(fixture.read(&posted_message.id).await.signal.unwrap().get(), "\"by card\"");
    for delivery in &lease_reply.deliveries {
        fixture.complete(delivery).await;
    }
    assert_eq!(fixture.queue.erase(&posted_message.id).await.unwrap(), Changed::Done);
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:signalled"), ":0", "the key is forgotten with the message");
}

#[tokio::test]
async fn sticky_signal_releases_later_messages_until_it_expires() {
    let fixture = TestQueue::new();
    let sticky_signal = Signal { sticky_for: Some(Millis::new(1_500).try_into().unwrap()), ..signal_with_data("open") };
    let signalled = fixture.queue.signal(&signal_key("gate"), &sticky_signal).await.unwrap();
    assert_eq!(signalled.released, 0, "a signal may be sent before there is a queue");
    let kept_signal = fixture.queue.sticky_signal(&signal_key("gate")).await.unwrap().unwrap();
    assert_eq!(signalled.sticky_until, Some(kept_signal.until));
    let plain_signal = fixture.queue.signal(&signal_key("fence"), &Signal::default()).await.unwrap();
    assert_eq!(plain_signal.sticky_until, None);
    let passed_message = fixture.post(message_with_hold_key(1, "gate")).await;
    assert_eq!((passed_message.state, passed_message.hold), (State::Waiting, None));
    assert_eq!(passed_message.signal.unwrap().get(), "\"open\"");
    let later_message =
        NewMessage { delay: Some(Millis::new(50).try_into().unwrap()), ..message_with_hold_key(2, "gate") };
    assert_eq!(fixture.post(later_message).await.state, State::Delayed);
    assert_eq!(fixture.post(message_with_hold_key(3, "fence")).await.state, State::Held);
    wait_millis(1_510).await;
    assert_eq!(fixture.post(message_with_hold_key(4, "gate")).await.state, State::Held);
    assert_eq!(numbers(&fixture.lease(10).await), [1, 2]);
    fixture.queue.maintain().await.unwrap();
    assert_eq!(
        fixture.redis.command("EXISTS drover:{q}:sticky drover:{q}:sticky_until"),
        ":0",
        "the sticky signal leaves no key"
    );
    fixture.assert_clean().await;
}

#[tokio::test]
async fn a_held_message_that_is_delayed_too_becomes_delayed() {
    let fixture = TestQueue::new();
    let posted_message = fixture
        .post(NewMessage { delay: Some(Millis::new(1_500).try_into().unwrap()), ..message_with_hold_key(1, "k") })
        .await;
    assert_eq!(posted_message.state, State::Held);
    assert_eq!(send_signal(&fixture, "k").await, 1);
    let message = fixture.read(&posted_message.id).await;
    assert_eq!((message.state, message.due_at), (State::Delayed, posted_message.due_at));
    wait_millis(1_510).await;
    let delivery = fixture.lease_one().await;
    assert!(
        delivery.message.started_at.unwrap() >= posted_message.due_at,
        "the message is not delivered before its due time"
    );
}

#[tokio::test]
async fn held_messages_can_be_cancelled_erased_and_purged() {
    let fixture = TestQueue::new();
    let mut ids = Vec::new();
    for n in 0..6 {
        let delay = (n % 2 == 1).then(|| Millis::from_secs(60).try_into().unwrap());
        ids.push(fixture.post(NewMessage { delay, ..message_with_hold_key(n, "k") }).await.id);
    }
    assert_eq!(fixture.queue.cancel(&ids[0]).await.unwrap(), Changed::Done);
    assert_eq!(fixture.queue.cancel(&ids[1]).await.unwrap(), Changed::Done);
    assert_eq!(fixture.read(&ids[0]).await.error.unwrap().code, "cancelled");
    assert_eq!(fixture.queue.erase(&ids[2]).await.unwrap(), Changed::Done);
    assert_eq!(fixture.queue.erase(&ids[3]).await.unwrap(), Changed::Done);
    assert_eq!(fixture.queue.promote(&ids[4]).await.unwrap(), Changed::Refused(State::Held));
    assert_eq!(fixture.queue.purge(State::Held).await.unwrap(), 2);
    assert_eq!(send_signal(&fixture, "k").await, 0);
    // A message that was cancelled while held is ready when it is retried, because its signal may have been sent already.
    assert_eq!(fixture.queue.retry(&ids[0]).await.unwrap(), Changed::Done);
    assert_eq!(numbers(&fixture.lease(10).await), [0]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn interrupted_signal_is_continued_and_later_signals_wait_for_it() {
    let fixture = TestQueue::new();
    for _ in 0..3 {
        fixture.queue.enqueue((0..1_000).map(|n| message_with_hold_key(n, "k")).collect()).await.unwrap();
    }
    // The command writes the state that a process leaves when it stores a signal and then dies.
    let seq = fixture.redis.command("GET drover:{q}:seq").split("\r\n").nth(1).unwrap().to_owned();
    fixture.redis.command(&format!("HSET drover:{{q}}:signals k \"{seq}\\t1\""));
    fixture.post(message_with_hold_key(7, "k")).await;
    // The second signal first releases the rest of the first signal's messages, then the messages that were posted between the two
    // signals.
    assert_eq!(fixture.queue.signal(&signal_key("k"), &signal_with_data("second")).await.unwrap().released, 1);
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!((status.counts.held, status.counts.waiting), (0, 3_001));
    let mut signal_data = Vec::new();
    for _ in 0..4 {
        for delivery in fixture.lease(1_000).await.deliveries {
            signal_data.push(delivery.message.signal.unwrap().get().to_owned());
        }
    }
    assert_eq!(signal_data.iter().filter(|signal_data| *signal_data == "1").count(), 3_000);
    assert_eq!(signal_data.last().unwrap(), "\"second\"");

    // Maintenance also continues an unfinished signal.
    for _ in 0..2 {
        fixture.queue.enqueue((0..1_000).map(|n| message_with_hold_key(n, "j")).collect()).await.unwrap();
    }
    let seq = fixture.redis.command("GET drover:{q}:seq").split("\r\n").nth(1).unwrap().to_owned();
    fixture.redis.command(&format!("HSET drover:{{q}}:signals j \"{seq}\\t\""));
    while fixture.queue.maintain().await.unwrap() == Some(std::time::Duration::ZERO) {}
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 2_000);
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:signals"), ":0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn malformed_stored_signal_stops_no_other_signal() {
    let fixture = TestQueue::new();
    fixture.post(message_with_hold_key(1, "k")).await;
    fixture.redis.command("HSET drover:{q}:signals k garbage");
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:signals"), ":0");
    assert_eq!(send_signal(&fixture, "k").await, 1);
}
