//! Bounds of one call: a script does a bounded part of a large operation, and further calls do the rest.

use queue_core::{Action, Changed, MessageRef, Millis, NewMessage, Signal, State};
use serde_json::{json, value::to_raw_value};

use crate::{TestQueue, failure, message_with_delay, message_with_priority, numbered_message, numbers, wait_millis};

/// A number of messages for which one step is not enough.
const MESSAGE_COUNT: u64 = 2_300;

fn message_with_hold_key(data: u64) -> NewMessage {
    NewMessage { hold: Some("key".parse().unwrap()), ..numbered_message(data) }
}

/// Posts `MESSAGE_COUNT` messages, 1,000 (the limit of a call) at a time.
async fn post_many(fixture: &TestQueue, messages: impl Fn(u64) -> NewMessage) -> Vec<MessageRef> {
    let all_numbers: Vec<u64> = (0..MESSAGE_COUNT).collect();
    let mut ids = vec![];
    for chunk in all_numbers.chunks(1_000) {
        let enqueue_outcomes = fixture.queue.enqueue(chunk.iter().map(|data| messages(*data)).collect()).await.unwrap();
        ids.extend(enqueue_outcomes.iter().map(|enqueue_outcomes| enqueue_outcomes.id().clone()));
    }
    ids
}

async fn count_in_state(fixture: &TestQueue, state: State) -> u64 {
    fixture.queue.status().await.unwrap().unwrap().counts.of(state)
}

async fn fail_all(fixture: &TestQueue) {
    while let deliveries_now = fixture.lease(1_000).await.deliveries
        && !deliveries_now.is_empty()
    {
        for delivery in deliveries_now {
            fixture.settle(&delivery, Action::FailForGood(failure())).await;
        }
    }
}

#[tokio::test]
async fn signal_releases_all_messages_that_were_held_when_the_signal_was_sent() {
    let fixture = TestQueue::new();
    post_many(&fixture, message_with_hold_key).await;
    let signal = Signal { data: Some(to_raw_value("go").unwrap()), sticky_for: None };
    assert_eq!(fixture.queue.signal(&"key".parse().unwrap(), &signal).await.unwrap().released, MESSAGE_COUNT);
    assert_eq!(count_in_state(&fixture, State::Held).await, 0);
    let mut delivered_numbers = vec![];
    for _ in 0..3 {
        let lease_reply = fixture.lease(1_000).await;
        assert!(lease_reply.deliveries.iter().all(|delivery| delivery.message.signal.is_some()));
        delivered_numbers.extend(numbers(&lease_reply));
    }
    assert_eq!(delivered_numbers, (0..MESSAGE_COUNT).collect::<Vec<_>>(), "messages are released in the order posted");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn interrupted_signal_releases_only_messages_that_were_held_when_the_signal_was_sent() {
    let fixture = TestQueue::new();
    post_many(&fixture, message_with_hold_key).await;
    let last_id = fixture.redis.command("GET drover:{q}:seq");
    let last_id = last_id.lines().last().unwrap();
    fixture.post(message_with_hold_key(MESSAGE_COUNT)).await;
    // The command writes the state that a process leaves when it dies between two steps.
    fixture.redis.command(&format!("HSET drover:{{q}}:signals key \"{last_id}\\t\""));
    while fixture.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {}
    assert_eq!(
        (count_in_state(&fixture, State::Held).await, count_in_state(&fixture, State::Waiting).await),
        (1, MESSAGE_COUNT)
    );
    fixture.redis.command(&format!("HSET drover:{{q}}:signals key \"{last_id}\\t\""));
    let signalled = fixture.queue.signal(&"key".parse().unwrap(), &Signal::default()).await.unwrap();
    assert_eq!(signalled.released, 1, "the earlier signal is finished before the new signal begins");
    assert_eq!(count_in_state(&fixture, State::Held).await, 0);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn purge_removes_all_messages_of_a_state() {
    let fixture = TestQueue::new();
    for (state, message) in [
        (State::Held, message_with_hold_key as fn(u64) -> NewMessage),
        (State::Delayed, |data| message_with_delay(data, 3_600_000)),
        (State::Waiting, |data| message_with_priority(data, 1 - i64::try_from(data % 3).unwrap())),
    ] {
        let ids = post_many(&fixture, message).await;
        assert_eq!(fixture.queue.cancel(&ids[7]).await.unwrap(), Changed::Done);
        assert_eq!(fixture.queue.purge(state).await.unwrap(), MESSAGE_COUNT - 1);
        assert_eq!(count_in_state(&fixture, state).await, 0, "{state:?}");
    }
    post_many(&fixture, numbered_message).await;
    while let deliveries_now = fixture.lease(1_000).await.deliveries
        && !deliveries_now.is_empty()
    {
        for delivery in deliveries_now {
            fixture.complete(&delivery).await;
        }
    }
    assert_eq!(fixture.queue.purge(State::Completed).await.unwrap(), MESSAGE_COUNT);
    post_many(&fixture, numbered_message).await;
    fail_all(&fixture).await;
    assert_eq!(
        fixture.queue.purge(State::Failed).await.unwrap(),
        MESSAGE_COUNT + 3,
        "cancelled messages are forgotten too"
    );
    assert_eq!(fixture.redis.command("KEYS drover:{q}:messages"), "*0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn dead_letters_are_retried_in_the_order_in_which_they_failed() {
    let fixture = TestQueue::new();
    post_many(&fixture, numbered_message).await;
    fail_all(&fixture).await;
    assert_eq!(fixture.queue.retry_failed().await.unwrap(), MESSAGE_COUNT);
    assert_eq!(
        (count_in_state(&fixture, State::Failed).await, count_in_state(&fixture, State::Waiting).await),
        (0, MESSAGE_COUNT)
    );
    assert_eq!(numbers(&fixture.lease(3).await), [0, 1, 2]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn leases_that_lapse_together_are_recovered_in_steps() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":100}"#);
    fixture.post_numbers(0..250).await;
    assert_eq!(fixture.lease(250).await.deliveries.len(), 250);
    wait_millis(110).await;
    while fixture.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {}
    assert_eq!(count_in_state(&fixture, State::Waiting).await, 250);
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.lapsed, 250);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn message_is_not_delivered_after_its_ttl_when_hundreds_expire_at_once() {
    let fixture = TestQueue::new();
    let expiring_message =
        |data| NewMessage { ttl: Some(Millis::new(50).try_into().unwrap()), ..numbered_message(data) };
    fixture.queue.enqueue((0..450).map(expiring_message).collect()).await.unwrap();
    fixture.post(numbered_message(450)).await;
    wait_millis(60).await;
    assert_eq!(numbers(&fixture.lease(1_000).await), [450]);
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!((status.counts.failed, status.totals.expired), (450, 450));
    fixture.assert_clean().await;
}

#[tokio::test]
async fn removed_messages_block_no_other_message() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..101).await;
    for message in fixture.queue.list(State::Waiting, 100, None).await.unwrap().messages {
        fixture.queue.cancel(&message.id).await.unwrap();
    }
    let lease_reply = loop {
        let lease_reply = fixture.lease(1).await;
        assert!(
            lease_reply.more_is_ready || !lease_reply.deliveries.is_empty(),
            "an empty answer says that more messages are ready"
        );
        if !lease_reply.deliveries.is_empty() {
            break lease_reply;
        }
    };
    assert_eq!(numbers(&lease_reply), [100]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn trimming_keeps_the_retained_number_when_some_messages_were_erased() {
    let fixture = TestQueue::with_settings(r#"{"retention":{"completed":{"min_age":0}}}"#);
    fixture.post_numbers(0..6).await;
    let deliveries = fixture.lease(6).await.deliveries;
    for delivery in &deliveries {
        fixture.complete(delivery).await;
    }
    for index in [0, 4] {
        assert_eq!(fixture.queue.erase(&deliveries[index].message.id).await.unwrap(), Changed::Done);
    }
    fixture.queue.configure(&json!({"retention": {"completed": {"count": 3, "min_age": 0}}})).await.unwrap();
    while fixture.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {}
    let kept_messages = fixture.queue.list(State::Completed, 10, None).await.unwrap().messages;
    assert_eq!(kept_messages.iter().map(|message| message.data.get()).collect::<Vec<_>>(), ["5", "3", "2"]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn message_that_does_not_fit_into_a_response_keeps_its_position_next_to_a_cancelled_message() {
    let fixture = TestQueue::new();
    let large_message = |first: char| NewMessage::new(to_raw_value(&first.to_string().repeat(1_300_000)).unwrap());
    let mut ids = vec![];
    for letter in ['a', 'b', 'c', 'd', 'e', 'f', 'g'] {
        ids.push(fixture.post(large_message(letter)).await.id);
    }
    fixture.queue.cancel(&ids[1]).await.unwrap();
    let waiting_letters = async || -> String {
        let lease_reply = fixture.lease(10).await;
        lease_reply.deliveries.iter().filter_map(|delivery| delivery.message.data.get().chars().nth(1)).collect()
    };
    assert_eq!(waiting_letters().await, "acd");
    assert_eq!(waiting_letters().await, "efg");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn concurrent_changes_of_settings_are_all_kept() {
    let fixture = TestQueue::new();
    for number in 1..20 {
        let age_patch = json!({"retention": {"completed": {"age": 60_000 + number}}});
        let count_patch = json!({"retention": {"completed": {"count": number}}});
        let (age_result, count_result) =
            tokio::join!(fixture.queue.configure(&age_patch), fixture.queue.configure(&count_patch));
        age_result.unwrap();
        count_result.unwrap();
        let kept_retention = fixture.queue.status().await.unwrap().unwrap().settings.retention.completed;
        assert_eq!(json!(kept_retention.age), age_patch["retention"]["completed"]["age"]);
        assert_eq!(json!(kept_retention.count), count_patch["retention"]["completed"]["count"]);
    }
}
