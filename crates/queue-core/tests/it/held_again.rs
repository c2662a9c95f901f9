//! Messages that a consumer releases as held: the consumer puts a leased message back until a signal comes.

use queue_core::{
    Action, Changed, Delivery, ListFilter, MessagePatch, Millis, NewMessage, Queue, Settlement, Signal, SignalKey,
    State,
};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use crate::{TestQueue, message_with_priority, numbered_message, numbers, wait_millis};

fn signal_key(name: &str) -> SignalKey {
    name.parse().unwrap()
}

fn hold_action(name: &str) -> Action {
    Action::Hold(signal_key(name))
}

fn in_group(group: &str, message: NewMessage) -> NewMessage {
    NewMessage { group: Some(group.parse().unwrap()), ..message }
}

fn signal_data(delivery: &Delivery) -> Option<&str> {
    delivery.message.signal.as_deref().map(RawValue::get)
}

impl TestQueue {
    async fn signal(&self, name: &str, data: Option<&str>) -> u64 {
        let signal = Signal { data: data.map(|data| to_raw_value(data).unwrap()), sticky_for: None };
        self.queue.signal(&signal_key(name), &signal).await.unwrap().released
    }

    async fn signal_sticky(&self, name: &str, data: &str, millis: u64) -> u64 {
        let sticky_for = Some(Millis::new(millis).try_into().unwrap());
        let signal = Signal { data: Some(to_raw_value(data).unwrap()), sticky_for };
        self.queue.signal(&signal_key(name), &signal).await.unwrap().released
    }

    /// Leases all ready messages, and holds them for a key.
    async fn hold_all(&self, name: &str) {
        let settlements: Vec<Settlement> = (self.lease(1_000).await.deliveries.into_iter())
            .map(|delivery| Settlement { lease: delivery.lease, action: hold_action(name) })
            .collect();
        let outcomes = self.queue.settle(&settlements).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Some(State::Held)), "{outcomes:?}");
    }

    async fn count_of(&self, state: State) -> u64 {
        self.queue.status().await.unwrap().unwrap().counts.of(state)
    }
}

#[tokio::test]
async fn message_released_as_held_waits_for_its_signal_with_no_attempt_spent() {
    let fixture = TestQueue::new();
    let id = fixture.post(NewMessage { hold: Some(signal_key("first")), ..numbered_message(1) }).await.id;
    assert_eq!(fixture.signal("first", Some("one")).await, 1);
    let delivery = fixture.lease_one().await;
    assert_eq!(signal_data(&delivery), Some("\"one\""));
    assert_eq!(fixture.settle(&delivery, hold_action("second")).await, Some(State::Held));

    let held_message = fixture.read(&id).await;
    assert_eq!(
        (held_message.state, held_message.hold, held_message.signal.is_none()),
        (State::Held, Some(signal_key("second")), true)
    );
    assert_eq!((held_message.attempts_made, held_message.deliveries, held_message.lapses), (0, 1, 0));
    assert_eq!(
        (held_message.started_at, held_message.consumer.as_ref()),
        (delivery.message.started_at, Some(&fixture.consumer))
    );
    assert!(fixture.lease(1).await.deliveries.is_empty());
    assert_eq!(fixture.count_of(State::Held).await, 1);
    for (name, expected) in [("first", 0), ("second", 1)] {
        let filter = ListFilter { hold: Some(signal_key(name)), ..ListFilter::default() };
        let page = fixture.queue.list_page(State::Held, &filter, 10, Queue::MAX_BYTES, None).await.unwrap();
        assert_eq!(page.messages.len(), expected, "{name}");
    }
    assert_eq!(fixture.queue.promote(&id).await.unwrap(), Changed::Refused(State::Held));
    let patch = MessagePatch { priority: Some(Some(1.try_into().unwrap())), ..MessagePatch::default() };
    let patched = fixture.queue.patch(&id, &patch).await.unwrap().unwrap();
    assert_eq!(patched, Changed::Refused(State::Held), "the message was leased before");
    fixture.assert_clean().await;

    assert_eq!(fixture.signal("first", None).await, 0, "the new hold key replaces the earlier hold key");
    assert_eq!(fixture.signal("second", Some("two")).await, 1);
    let delivery = fixture.lease_one().await;
    assert_eq!((delivery.message.deliveries, signal_data(&delivery)), (2, Some("\"two\"")));
    assert_eq!(fixture.settle(&delivery, hold_action("second")).await, Some(State::Held));
    assert_eq!(fixture.signal("second", None).await, 1);
    let delivery = fixture.lease_one().await;
    assert_eq!(signal_data(&delivery), None, "the last signal had no data");
    assert_eq!(fixture.complete(&delivery).await, Some(State::Completed));
    assert_eq!(fixture.queue.erase(&id).await.unwrap(), Changed::Done);
    let keys = fixture.redis.command("EXISTS drover:{q}:held drover:{q}:runs drover:{q}:options drover:{q}:signalled");
    assert_eq!(keys, ":0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn sticky_signal_releases_a_message_at_once_when_it_is_released_as_held() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..3).await;
    assert_eq!(fixture.signal_sticky("gate", "open", 1_500).await, 0);
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.settle(&delivery, hold_action("gate")).await, Some(State::Waiting));
    let message = fixture.read(&delivery.message.id).await;
    assert_eq!((message.state, message.hold), (State::Waiting, None));
    let lease_reply = fixture.lease(10).await;
    assert_eq!(numbers(&lease_reply), [0, 1, 2], "the message has returned to the head");
    assert_eq!(lease_reply.deliveries.iter().map(signal_data).collect::<Vec<_>>(), [Some("\"open\""), None, None]);
    fixture.assert_clean().await;
    wait_millis(1_510).await;
    assert_eq!(fixture.settle(&lease_reply.deliveries[0], hold_action("gate")).await, Some(State::Held));
    assert_eq!(fixture.signal("gate", None).await, 1);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn no_sticky_signal_is_missed_by_a_message_that_is_held_at_the_same_time() {
    let fixture = TestQueue::new();
    for round in 0..100 {
        let name = format!("k{round}");
        let group = round.to_string();
        fixture.post(in_group(&group, numbered_message(round))).await;
        let delivery = fixture.lease_one().await;
        let (outcome, released) =
            tokio::join!(fixture.settle(&delivery, hold_action(&name)), fixture.signal_sticky(&name, "go", 60_000));
        // The signal finds the message held, or the message finds the signal.
        assert!(
            matches!((outcome.unwrap(), released), (State::Held, 1) | (State::Waiting, 0)),
            "{outcome:?}, {released}"
        );
        let delivery = fixture.lease_one().await;
        assert_eq!(signal_data(&delivery), Some("\"go\""));
        fixture.complete(&delivery).await;
    }
    fixture.assert_clean().await;
}

#[tokio::test]
async fn message_held_again_blocks_its_group_and_goes_first_after_its_signal() {
    let fixture = TestQueue::new();
    let posts = vec![
        in_group("a", numbered_message(0)),
        in_group("a", message_with_priority(1, 1)),
        in_group("a", numbered_message(2)),
        in_group("b", numbered_message(10)),
        NewMessage { hold: Some(signal_key("k")), ..in_group("a", message_with_priority(3, -1)) },
    ];
    fixture.queue.enqueue(posts).await.unwrap();
    let lease_reply = fixture.lease(10).await;
    assert_eq!(numbers(&lease_reply), [0, 10]);
    assert_eq!(fixture.settle(&lease_reply.deliveries[0], hold_action("k")).await, Some(State::Held));
    fixture.complete(&lease_reply.deliveries[1]).await;
    assert!(fixture.lease(10).await.deliveries.is_empty(), "no message of the group overtakes the held message");
    fixture.assert_clean().await;

    // The signal also releases message 3, which was never leased and so takes its usual position.
    assert_eq!(fixture.signal("k", None).await, 2);
    fixture.assert_clean().await;
    for expected in [0, 3, 2, 1] {
        let lease_reply = fixture.lease(10).await;
        assert_eq!(numbers(&lease_reply), [expected]);
        fixture.complete(&lease_reply.deliveries[0]).await;
    }
    let keys = fixture
        .redis
        .command("EXISTS drover:{q}:groups drover:{q}:group_rest drover:{q}:turns drover:{q}:single_turns");
    assert_eq!(keys, ":0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn group_of_a_message_held_again_continues_when_that_message_ends() {
    for end in ["cancel", "erase", "purge", "expiry"] {
        let fixture = TestQueue::new();
        let ttl = (end == "expiry").then(|| Millis::new(1_500).try_into().unwrap());
        let id = fixture.post(NewMessage { ttl, ..in_group("a", numbered_message(0)) }).await.id;
        fixture.post(in_group("a", numbered_message(1))).await;
        fixture.hold_all("k").await;
        assert_eq!(fixture.count_of(State::Waiting).await, 1);
        match end {
            "cancel" => assert_eq!(fixture.queue.cancel(&id).await.unwrap(), Changed::Done),
            "erase" => assert_eq!(fixture.queue.erase(&id).await.unwrap(), Changed::Done),
            "purge" => assert_eq!(fixture.queue.purge(State::Held).await.unwrap(), 1),
            _ => {
                wait_millis(1_510).await;
                fixture.queue.maintain().await.unwrap();
                assert_eq!(fixture.read(&id).await.error.unwrap().code, "expired");
            }
        }
        fixture.assert_clean().await;
        assert_eq!(numbers(&fixture.lease(10).await), [1], "after {end}");
        assert_eq!(fixture.signal("k", None).await, 0);
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn cancelled_message_fails_when_it_is_released_as_held() {
    let fixture = TestQueue::new();
    fixture.post(in_group("a", numbered_message(0))).await;
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.queue.cancel(&delivery.message.id).await.unwrap(), Changed::Requested);
    assert_eq!(fixture.settle(&delivery, hold_action("k")).await, Some(State::Failed));
    assert_eq!(
        fixture.settle(&delivery, hold_action("k")).await,
        Some(State::Failed),
        "the repeated settlement has the answer of the first settlement"
    );
    let message = fixture.read(&delivery.message.id).await;
    assert_eq!((message.attempts_made, message.error.unwrap().code.as_str()), (0, "cancelled"));
    assert_eq!(fixture.signal("k", None).await, 0);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn repeated_settle_of_a_held_message_has_its_answer_while_purged_messages_are_being_forgotten() {
    let fixture = TestQueue::new();
    for thousand in 0..3 {
        fixture.post_numbers(thousand * 1_000..(thousand + 1) * 1_000).await;
    }
    let delivery = fixture.lease_one().await;
    // The command writes what the first step of an interrupted purge leaves.
    let last_id = fixture.redis.command("GET drover:{q}:seq").lines().last().unwrap().to_owned();
    fixture.redis.command(&format!("HSET drover:{{q}}:meta purged_to {last_id}"));
    fixture.redis.command("RENAME drover:{q}:waiting drover:{q}:purged");
    for _ in 0..2 {
        assert_eq!(fixture.settle(&delivery, hold_action("k")).await, Some(State::Held));
    }
    assert_eq!(fixture.read(&delivery.message.id).await.state, State::Held);
    while fixture.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {}
    assert_eq!(fixture.signal("k", None).await, 1);
    assert_eq!(numbers(&fixture.lease(10).await), [0]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn message_held_again_does_not_block_an_exclusive_queue() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true}"#);
    fixture.post_numbers(0..3).await;
    let first_delivery = fixture.lease_one().await;
    assert_eq!(fixture.settle(&first_delivery, hold_action("k")).await, Some(State::Held));
    let second_delivery = fixture.lease_one().await;
    assert_eq!(second_delivery.message.data.get(), "1");
    assert_eq!(fixture.signal("k", None).await, 1);
    fixture.complete(&second_delivery).await;
    for expected in [2, 0] {
        let delivery = fixture.lease_one().await;
        assert_eq!(delivery.message.data.get(), expected.to_string());
        fixture.complete(&delivery).await;
    }
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ready_time_of_a_message_held_again_is_its_signal() {
    let fixture = TestQueue::new();
    fixture.post(numbered_message(0)).await;
    fixture.hold_all("k").await;
    wait_millis(400).await;
    fixture.signal("k", None).await;
    let signalled_at = fixture.queue.status().await.unwrap().unwrap().oldest_waiting_age.unwrap();
    assert!(signalled_at < Millis::new(400), "{signalled_at:?}");
    let delivery = fixture.lease_one().await;
    assert!(delivery.message.started_at.unwrap().since(delivery.ready_at) < Millis::new(400));
}

#[tokio::test]
async fn signal_releases_a_message_once_even_if_it_is_held_again_between_two_steps() {
    for (message, step) in [
        (numbered_message as fn(u64) -> NewMessage, 1_000),
        (|n| in_group(&(n % 700).to_string(), numbered_message(n)), 400),
    ] {
        let fixture = TestQueue::new();
        fixture.queue.configure(&json!({"groups": {"concurrency": null}})).await.unwrap();
        for _ in 0..3 {
            fixture.queue.enqueue((0..1_000).map(message).collect()).await.unwrap();
        }
        for _ in 0..3 {
            fixture.hold_all("k").await;
        }
        assert_eq!(fixture.count_of(State::Held).await, 3_000);
        // The command writes the state that a process leaves when it stores a signal and then dies. Maintenance continues the stored
        // signal.
        let last_id = fixture.redis.command("GET drover:{q}:seq").lines().last().unwrap().to_owned();
        fixture.redis.command(&format!("HSET drover:{{q}}:signals k \"{last_id}\\t[1,\\t2]\""));
        fixture.queue.maintain().await.unwrap();
        assert_eq!(fixture.count_of(State::Waiting).await, step);
        let lease_reply = fixture.lease(10).await;
        for delivery in &lease_reply.deliveries {
            assert_eq!(signal_data(delivery), Some("[1,\t2]"));
            assert_eq!(fixture.settle(delivery, hold_action("k")).await, Some(State::Held));
        }
        while fixture.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {}
        assert_eq!((fixture.count_of(State::Held).await, fixture.count_of(State::Waiting).await), (10, 2_990));
        assert_eq!(fixture.redis.command("EXISTS drover:{q}:signals"), ":0");
        fixture.assert_clean().await;
        assert_eq!(fixture.signal("k", None).await, 10);
        let mut leased = 0;
        while leased < 3_000 {
            let deliveries = fixture.lease(1_000).await.deliveries;
            assert!(!deliveries.is_empty() && deliveries.iter().all(|delivery| delivery.message.deliveries >= 2));
            leased += deliveries.len();
        }
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn long_hold_keys_count_toward_the_bytes_of_a_lease_call() {
    let fixture = TestQueue::new();
    let payload = to_raw_value(&"x".repeat(3_600)).unwrap();
    fixture.queue.enqueue((0..1_000).map(|_| NewMessage::new(payload.clone())).collect()).await.unwrap();
    // A key has up to 256 characters of four bytes.
    let name = "🐂".repeat(256);
    fixture.hold_all(&name).await;
    assert_eq!(fixture.count_of(State::Held).await, 1_000);
    assert_eq!(fixture.signal(&name, None).await, 1_000);
    let lease_reply = fixture.lease(1_000).await;
    let leased_count = lease_reply.deliveries.len();
    assert!(
        (800..=4_194_304 / 4_624).contains(&leased_count) && lease_reply.more_is_ready,
        "{leased_count} messages are leased"
    );
}

#[tokio::test]
async fn audit_finds_a_message_that_is_held_for_a_key_that_its_options_do_not_have() {
    let fixture = TestQueue::new();
    let id = fixture.post(numbered_message(0)).await.id;
    fixture.hold_all("k").await;
    fixture.assert_clean().await;
    for member in [format!("other\\t{id}"), format!("k\\t{id}\\t5"), "k\\t99999999999999".into()] {
        fixture.redis.command(&format!("ZADD drover:{{q}}:held 0 \"{member}\""));
        let findings = fixture.queue.audit().await.unwrap().findings;
        assert_eq!(findings.len(), 1, "{member}: {findings:?}");
        fixture.redis.command(&format!("ZREM drover:{{q}}:held \"{member}\""));
    }
    fixture.assert_clean().await;
}
