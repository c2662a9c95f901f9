//! Tests of groups: the order of a group's messages, the limit of a group's active messages, and the turns in which groups are
//! served.

use std::{collections::BTreeMap, time::Duration};

use queue_core::{Action, Delivery, Error, ListFilter, MessageRef, Millis, NewMessage, Queue, State};
use serde_json::{Value, json};

use crate::{
    TestQueue, completion, failure, message_with_delay, message_with_priority, numbered_message, numbers, wait_millis,
};

/// Returns the message with its group set to `group`.
fn in_group(group: &str, message: NewMessage) -> NewMessage {
    NewMessage { group: Some(group.parse().unwrap()), ..message }
}

async fn post_to_group(fixture: &TestQueue, group: &str, numbers: impl IntoIterator<Item = u64>) {
    fixture.queue.enqueue(numbers.into_iter().map(|n| in_group(group, numbered_message(n))).collect()).await.unwrap();
}

async fn lease_numbers(fixture: &TestQueue, max: usize) -> Vec<u64> {
    numbers(&fixture.lease(max).await)
}

/// Leases messages until none is left, completes them, and returns their numbers in the order of the leases.
async fn drain_numbers(fixture: &TestQueue, max: usize) -> Vec<u64> {
    let mut leased_numbers = Vec::new();
    loop {
        let lease_reply = fixture.lease(max).await;
        if lease_reply.deliveries.is_empty() {
            return leased_numbers;
        }
        leased_numbers.extend(numbers(&lease_reply));
        for delivery in &lease_reply.deliveries {
            assert_eq!(fixture.complete(delivery).await, Some(State::Completed));
        }
    }
}

/// Returns how many keys of groups are left.
fn group_keys(fixture: &TestQueue) -> String {
    fixture.redis.command("EXISTS drover:{q}:groups drover:{q}:group_rest drover:{q}:turns drover:{q}:single_turns")
}

async fn assert_nothing_left(fixture: &TestQueue) {
    assert!(group_keys(fixture).contains(":0"), "{}", group_keys(fixture));
    let meta_values = fixture.redis.command("HMGET drover:{q}:meta grouped ready turn layout");
    assert!(meta_values.contains("$-1\r\n$-1\r\n$-1\r\n$1\r\n3"), "{meta_values:?}");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn one_message_of_a_group_is_active_at_a_time_and_groups_have_turns() {
    let fixture = TestQueue::new();
    post_to_group(&fixture, "a", 0..3).await;
    post_to_group(&fixture, "b", 10..12).await;
    fixture.post_numbers([20, 21, 22]).await;
    let lease_reply = fixture.lease(10).await;
    // All messages without a group share one turn, beside one turn of each group, and use the rest of the lease call when no other turn
    // is left.
    assert_eq!(numbers(&lease_reply), [0, 10, 20, 21, 22]);
    assert!(!lease_reply.more_is_ready && !lease_reply.permits_ahead);
    for delivery in &lease_reply.deliveries {
        fixture.complete(delivery).await;
    }
    assert_eq!(drain_numbers(&fixture, 10).await, [1, 11, 2]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn groups_without_a_limit_of_concurrency_still_have_turns() {
    let fixture = TestQueue::new();
    fixture.queue.configure(&json!({"groups": {"concurrency": null}})).await.unwrap();
    post_to_group(&fixture, "a", 0..6).await;
    post_to_group(&fixture, "b", 10..12).await;
    fixture.post_numbers([20, 21]).await;
    assert_eq!(lease_numbers(&fixture, 4).await, [0, 10, 20, 1]);
    assert_eq!(lease_numbers(&fixture, 3).await, [11, 21, 2]);
    assert_eq!(lease_numbers(&fixture, 9).await, [3, 4, 5]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn changed_concurrency_of_groups_applies_at_once_whether_raised_or_lowered() {
    let fixture = TestQueue::new();
    for group in 0..1_500 {
        post_to_group(&fixture, &format!("g{group}"), [group, group + 10_000]).await;
    }
    assert_eq!(lease_numbers(&fixture, 1_000).await.len() + lease_numbers(&fixture, 1_000).await.len(), 1_500);
    assert_eq!(lease_numbers(&fixture, 1).await.len(), 0, "each group has one active message");
    fixture.queue.configure(&json!({"groups": {"concurrency": 2}})).await.unwrap();
    let mut later_leases = lease_numbers(&fixture, 1_000).await;
    later_leases.extend(lease_numbers(&fixture, 1_000).await);
    assert_eq!(later_leases.len(), 1_500);
    assert!(later_leases.iter().all(|n| *n >= 10_000));
    fixture.queue.configure(&json!({"groups": null})).await.unwrap();
    post_to_group(&fixture, "g0", [1]).await;
    assert_eq!(lease_numbers(&fixture, 1).await.len(), 0);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn priority_orders_a_group_and_a_returned_message_goes_first() {
    let fixture = TestQueue::new();
    fixture
        .queue
        .enqueue(vec![
            in_group("a", numbered_message(0)),
            in_group("a", message_with_priority(1, -1)),
            in_group("a", message_with_priority(2, 1)),
        ])
        .await
        .unwrap();
    let first_delivery = fixture.lease_one().await;
    assert_eq!(first_delivery.message.data.get(), "1");
    fixture.post(in_group("a", message_with_priority(3, -5))).await;
    fixture.settle(&first_delivery, Action::Release(None)).await;
    assert_eq!(drain_numbers(&fixture, 1).await, [1, 3, 0, 2]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn message_in_back_off_or_released_with_a_pause_counts_as_active_in_its_group() {
    for action in [Action::Fail(failure()), Action::Release(Some(Millis::new(150)))] {
        let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":150,"jitter":0}}"#);
        post_to_group(&fixture, "a", 0..2).await;
        post_to_group(&fixture, "b", 10..12).await;
        let lease_reply = fixture.lease(10).await;
        assert_eq!(numbers(&lease_reply), [0, 10]);
        assert_eq!(fixture.settle(&lease_reply.deliveries[0], action).await, Some(State::Delayed));
        fixture.complete(&lease_reply.deliveries[1]).await;
        let other_lease_reply = fixture.lease(10).await;
        assert_eq!(numbers(&other_lease_reply), [11], "only the other group has a turn");
        assert!(other_lease_reply.call_again_in.unwrap().as_millis() <= 150);
        fixture.assert_clean().await;
        wait_millis(200).await;
        assert_eq!(drain_numbers(&fixture, 10).await, [0, 1]);
        fixture.complete(&other_lease_reply.deliveries[0]).await;
        assert_nothing_left(&fixture).await;
    }
}

#[tokio::test]
async fn lapsed_and_undone_leases_return_their_messages_before_all_others_of_the_group() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":100}"#);
    post_to_group(&fixture, "a", 0..3).await;
    let first_delivery = fixture.lease_one().await;
    fixture.queue.undo_leases(&[first_delivery.lease]).await.unwrap();
    assert_eq!(numbers(&fixture.lease(5).await), [0]);
    wait_millis(150).await;
    let second_lease_reply = fixture.lease(5).await;
    assert_eq!(numbers(&second_lease_reply), [0]);
    assert_eq!(second_lease_reply.deliveries[0].message.lapses, 1);
    fixture.complete(&second_lease_reply.deliveries[0]).await;
    assert_eq!(drain_numbers(&fixture, 5).await, [1, 2]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn late_completion_of_a_lapsed_message_frees_its_group() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":100}"#);
    post_to_group(&fixture, "a", 0..2).await;
    let first_delivery = fixture.lease_one().await;
    wait_millis(150).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.complete(&first_delivery).await, Some(State::Completed));
    assert_eq!(drain_numbers(&fixture, 5).await, [1]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn delayed_and_held_messages_join_their_group_by_id_when_they_are_due_or_released() {
    let fixture = TestQueue::new();
    fixture
        .queue
        .enqueue(vec![
            in_group("a", message_with_delay(0, 100)),
            in_group("a", numbered_message(1)),
            in_group("a", numbered_message(2)),
        ])
        .await
        .unwrap();
    let held_message = NewMessage { hold: Some("k".parse().unwrap()), ..in_group("b", numbered_message(10)) };
    fixture
        .queue
        .enqueue(vec![held_message, in_group("b", numbered_message(11)), in_group("b", numbered_message(12))])
        .await
        .unwrap();
    let lease_reply = fixture.lease(5).await;
    assert_eq!(numbers(&lease_reply), [1, 11]);
    wait_millis(150).await;
    fixture.queue.signal(&"k".parse().unwrap(), &queue_core::Signal::default()).await.unwrap();
    for delivery in &lease_reply.deliveries {
        fixture.complete(delivery).await;
    }
    let next_lease_reply = fixture.lease(5).await;
    assert_eq!(numbers(&next_lease_reply), [0, 10]);
    for delivery in &next_lease_reply.deliveries {
        fixture.complete(delivery).await;
    }
    assert_eq!(drain_numbers(&fixture, 5).await, [2, 12]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn failing_cancelling_or_erasing_a_message_lets_its_group_continue() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":60000}}"#);
    post_to_group(&fixture, "a", 0..4).await;
    let first_delivery = fixture.lease_one().await;
    fixture.settle(&first_delivery, Action::FailForGood(failure())).await;
    let second_delivery = fixture.lease_one().await;
    fixture.settle(&second_delivery, Action::Fail(failure())).await;
    assert_eq!(lease_numbers(&fixture, 5).await.len(), 0, "the message of the group is in back-off");
    fixture.queue.cancel(&second_delivery.message.id).await.unwrap();
    let third_delivery = fixture.lease_one().await;
    assert_eq!(third_delivery.message.data.get(), "2");
    fixture.settle(&third_delivery, Action::Fail(failure())).await;
    fixture.queue.erase(&third_delivery.message.id).await.unwrap();
    assert_eq!(drain_numbers(&fixture, 5).await, [3]);
    assert_nothing_left(&fixture).await;
    // A dead letter that a client retries returns to its position in the group's order, which is the order of ids.
    post_to_group(&fixture, "a", 4..6).await;
    fixture.queue.retry(&first_delivery.message.id).await.unwrap();
    assert_eq!(drain_numbers(&fixture, 1).await, [0, 4, 5]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn purges_empty_groups_and_keep_messages_posted_later() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":60000}}"#);
    post_to_group(&fixture, "a", 0..1_000).await;
    post_to_group(&fixture, "b", 0..500).await;
    let active_lease_reply = fixture.lease(2).await;
    assert_eq!(fixture.queue.purge(State::Waiting).await.unwrap(), 1_498);
    post_to_group(&fixture, "a", [7]).await;
    assert_eq!(lease_numbers(&fixture, 5).await.len(), 0, "both groups have an active message");
    for delivery in &active_lease_reply.deliveries {
        fixture.settle(delivery, Action::Fail(failure())).await;
    }
    assert_eq!(fixture.queue.purge(State::Delayed).await.unwrap(), 2);
    assert_eq!(drain_numbers(&fixture, 5).await, [7]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn a_message_that_expires_costs_its_group_no_turn() {
    let fixture = TestQueue::new();
    let short_lived_message =
        |n| NewMessage { ttl: Some(Millis::new(50).try_into().unwrap()), ..in_group("a", numbered_message(n)) };
    fixture
        .queue
        .enqueue(
            (0..300)
                .map(short_lived_message)
                .chain([in_group("a", numbered_message(300)), in_group("b", numbered_message(400))])
                .collect(),
        )
        .await
        .unwrap();
    wait_millis(100).await;
    // One call fails a hundred expired messages before it leases; other expired messages are still first in the group.
    assert_eq!(lease_numbers(&fixture, 2).await, [300, 400]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn message_beyond_the_rate_limit_or_the_bytes_of_an_answer_costs_its_group_no_turn() {
    let fixture = TestQueue::with_settings(r#"{"rate_limit":{"max":3,"duration":300}}"#);
    for (group, begin) in [("a", 0), ("b", 10), ("c", 20)] {
        post_to_group(&fixture, group, begin..begin + 2).await;
    }
    fixture.queue.configure(&json!({"groups": {"concurrency": null}})).await.unwrap();
    assert_eq!(lease_numbers(&fixture, 2).await, [0, 10]);
    let limited_lease_reply = fixture.lease(5).await;
    assert_eq!(numbers(&limited_lease_reply), [20]);
    wait_millis(350).await;
    assert_eq!(lease_numbers(&fixture, 5).await, [1, 11, 21]);

    let fixture = TestQueue::new();
    let large_text =
        |n: u64| NewMessage::new(serde_json::value::to_raw_value(&format!("{n}{}", "x".repeat(2_000_000))).unwrap());
    fixture.queue.enqueue(vec![in_group("a", numbered_message(0)), in_group("b", large_text(1))]).await.unwrap();
    fixture.queue.enqueue(vec![in_group("c", large_text(2)), in_group("d", numbered_message(3))]).await.unwrap();
    fixture.queue.enqueue(vec![in_group("e", large_text(4))]).await.unwrap();
    let backlog_sizes =
        |deliveries: &[Delivery]| deliveries.iter().map(|d| d.message.data.get().len() > 100).collect::<Vec<_>>();
    assert_eq!(backlog_sizes(&fixture.lease(9).await.deliveries), [false, true, true, false]);
    assert_eq!(backlog_sizes(&fixture.lease(9).await.deliveries), [true]);
}

#[tokio::test]
async fn tenant_with_a_large_backlog_does_not_delay_other_tenants() {
    for consumers in [1, 3] {
        let fixture = TestQueue::new();
        fixture.queue.configure(&json!({"groups": {"concurrency": null}})).await.unwrap();
        for chunk in 0..100 {
            post_to_group(&fixture, "large", chunk * 1_000..(chunk + 1) * 1_000).await;
        }
        let mut remaining_counts: BTreeMap<String, u64> =
            (1..10).map(|tenant| (format!("tenant {tenant}"), 10)).collect();
        for tenant in remaining_counts.keys() {
            post_to_group(&fixture, tenant, 0..10).await;
        }
        // In a round, one message of each group from which a message may be leased is leased.
        let mut round_count = 0;
        while !remaining_counts.is_empty() {
            round_count += 1;
            assert!(round_count <= 11, "{consumers} consumers: {remaining_counts:?} are left");
            let mut left_in_round = remaining_counts.len() + 1;
            while left_in_round > 0 {
                let share_of_consumer = left_in_round.div_ceil(consumers);
                let lease_reply = fixture.lease(share_of_consumer).await;
                assert_eq!(lease_reply.deliveries.len(), share_of_consumer);
                left_in_round -= share_of_consumer;
                let groups =
                    lease_reply.deliveries.iter().map(|delivery| delivery.message.group.as_ref().unwrap().as_str());
                for group in groups.filter(|group| *group != "large") {
                    *remaining_counts.get_mut(group).unwrap() -= 1;
                }
                for delivery in &lease_reply.deliveries {
                    fixture.complete(delivery).await;
                }
            }
            remaining_counts.retain(|_, remaining_counts| *remaining_counts > 0);
        }
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn list_of_a_group_is_exact_for_waiting_messages_and_scans_other_states() {
    let fixture = TestQueue::new();
    for (group, begin) in [("a", 0), ("a b", 100), ("a0", 200)] {
        post_to_group(&fixture, group, begin..begin + 30).await;
    }
    fixture.post_numbers(300..305).await;
    let list_group = async |state, group: &str, limit: usize| {
        let filter = ListFilter { group: Some(group.parse().unwrap()), ..ListFilter::default() };
        let (mut cursor, mut found) = (None, Vec::<u64>::new());
        loop {
            let page =
                fixture.queue.list_page(state, &filter, limit, Queue::MAX_BYTES, cursor.as_deref()).await.unwrap();
            found.extend(page.messages.iter().map(|message| message.data.get().parse::<u64>().unwrap()));
            cursor = page.next;
            if cursor.is_none() {
                return found;
            }
        }
    };
    for limit in [1, 7, 100] {
        assert_eq!(list_group(State::Waiting, "a", limit).await, (0..30).collect::<Vec<u64>>());
        assert_eq!(list_group(State::Waiting, "a b", limit).await, (100..130).collect::<Vec<u64>>());
    }
    assert!(list_group(State::Waiting, "b", 5).await.is_empty());
    fixture.lease(2).await;
    assert_eq!(list_group(State::Active, "a", 1).await, [0]);
    let mut cursor = None;
    let mut listed_numbers = Vec::new();
    loop {
        let page = fixture.queue.list(State::Waiting, 4, cursor.as_deref()).await.unwrap();
        listed_numbers.extend(page.messages.iter().map(|message| message.data.get().parse::<u64>().unwrap()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    listed_numbers.sort_unstable();
    let expected_numbers = (1..30).chain(101..130).chain(200..230).chain(300..305).collect::<Vec<u64>>();
    assert_eq!(listed_numbers, expected_numbers);
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, expected_numbers.len() as u64);
}

#[tokio::test]
async fn exclusive_queue_refuses_groups_and_queue_with_groups_does_not_become_exclusive() {
    let fixture = TestQueue::new();
    fixture.post(in_group("a", message_with_delay(1, 60_000))).await;
    let refusal = fixture.queue.configure(&json!({"exclusive": true})).await.unwrap_err();
    assert!(matches!(&refusal, Error::InvalidSetting(invalid) if invalid.is_conflict), "{refusal}");
    fixture.queue.purge(State::Delayed).await.unwrap();
    fixture.queue.configure(&json!({"exclusive": true})).await.unwrap();
    for alone in [true, false] {
        let refusal = if alone {
            fixture.queue.post(in_group("a", numbered_message(1))).await.map(drop)
        } else {
            fixture.queue.enqueue(vec![numbered_message(0), in_group("a", numbered_message(1))]).await.map(drop)
        };
        assert!(matches!(refusal, Err(Error::ExclusiveQueue)), "{refusal:?}");
    }
    fixture.queue.post(numbered_message(2)).await.unwrap();
    assert_eq!(lease_numbers(&fixture, 5).await, [2]);
}

#[tokio::test]
async fn exclusive_queue_refuses_to_retry_messages_with_a_group() {
    let fixture = TestQueue::new();
    post_to_group(&fixture, "a", [0]).await;
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, Action::FailForGood(failure())).await;
    fixture.queue.configure(&json!({"exclusive": true})).await.unwrap();
    let id = &delivery.message.id;
    let (retry_result, retry_failed_result) = (fixture.queue.retry(id).await, fixture.queue.retry_failed().await);
    assert!(
        matches!((&retry_result, &retry_failed_result), (Err(Error::ExclusiveQueue), Err(Error::ExclusiveQueue))),
        "{retry_result:?} {retry_failed_result:?}"
    );
    fixture.assert_clean().await;
    fixture.queue.configure(&json!({"exclusive": false})).await.unwrap();
    assert_eq!(fixture.queue.retry_failed().await.unwrap(), 1);
    assert_eq!(drain_numbers(&fixture, 1).await, [0]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn audit_finds_damaged_groups() {
    for breakage in [
        "HSET drover:{q}:groups a 12097152217189234000171/2",
        "HSET drover:{q}:groups d /1",
        "ZREM drover:{q}:turns b",
        "ZADD drover:{q}:turns 9 a",
        "HDEL drover:{q}:groups b",
        "HINCRBY drover:{q}:meta ready 1",
        "ZREMRANGEBYRANK drover:{q}:group_rest 0 0",
        "HINCRBY drover:{q}:meta grouped 1",
        "ZADD drover:{q}:turns 9 ''",
        "ZADD drover:{q}:turns 9 c",
        "RPOP drover:{q}:single_turns",
        "RPUSH drover:{q}:single_turns 0",
        "HSET drover:{q}:meta turn 9",
    ] {
        let fixture = TestQueue::new();
        post_to_group(&fixture, "a", 0..3).await;
        post_to_group(&fixture, "b", 10..13).await;
        post_to_group(&fixture, "c", [20]).await;
        fixture.lease_one().await;
        fixture.assert_clean().await;
        fixture.redis.command(breakage);
        let audit = fixture.queue.audit().await.unwrap();
        assert!(!audit.findings.is_empty(), "{breakage}");
    }
}

#[tokio::test]
async fn queue_with_groups_has_a_layout_that_older_versions_refuse() {
    let fixture = TestQueue::new();
    post_to_group(&fixture, "a", 0..2).await;
    let layout = || fixture.redis.command("HGET drover:{q}:meta layout");
    assert!(layout().contains('4'), "{}", layout());
    assert_eq!(drain_numbers(&fixture, 1).await, [0, 1]);
    assert_nothing_left(&fixture).await;
}

#[tokio::test]
async fn events_of_a_message_name_its_group() {
    let fixture = TestQueue::new();
    fixture.queue.declare().await.unwrap();
    let begin_id = fixture.queue.listen().await.unwrap().unwrap();
    post_to_group(&fixture, "a", [0]).await;
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, completion()).await;
    let events = fixture.queue.all_events_after(begin_id).await.unwrap().unwrap();
    let groups: Vec<Value> =
        events.iter().map(|event| serde_json::from_str::<Value>(event.json()).unwrap()["group"].clone()).collect();
    assert_eq!(groups, vec![json!("a"); 3]);
}

#[tokio::test]
async fn a_thousand_groups_of_one_message_leave_nothing_behind() {
    let fixture = TestQueue::new();
    let messages = (0..1_000).map(|n| in_group(&format!("user-{n}"), numbered_message(n)));
    fixture.queue.enqueue(messages.collect()).await.unwrap();
    let mut drained_messages = drain_numbers(&fixture, 33).await;
    drained_messages.sort_unstable();
    assert!(drained_messages.into_iter().eq(0..1_000));
    assert_nothing_left(&fixture).await;
}

/// Returns the number of ids in the list of the turns of single groups.
fn single_turn_count(fixture: &TestQueue) -> String {
    fixture.redis.command("LLEN drover:{q}:single_turns").trim().to_owned()
}

async fn cancel_number(fixture: &TestQueue, number: u64) {
    let page = fixture.queue.list(State::Waiting, 100, None).await.unwrap();
    let id = page.messages.into_iter().find(|message| message.data.get() == number.to_string()).unwrap().id;
    assert!(fixture.queue.cancel(&id).await.is_ok());
}

#[tokio::test]
async fn a_group_whose_only_message_is_cancelled_and_posted_again_has_one_turn_a_round() {
    let fixture = TestQueue::new();
    post_to_group(&fixture, "a", [0]).await;
    post_to_group(&fixture, "b", [10]).await;
    cancel_number(&fixture, 0).await;
    post_to_group(&fixture, "a", [1]).await;
    assert_eq!(single_turn_count(&fixture), ":3", "the id of the cancelled message is still in the list");
    fixture.assert_clean().await;
    post_to_group(&fixture, "b", [11]).await;
    post_to_group(&fixture, "a", [2]).await;
    // The second round begins when each group has had one turn.
    fixture.queue.configure(&json!({"groups": {"concurrency": null}})).await.unwrap();
    assert_eq!(lease_numbers(&fixture, 3).await, [10, 1, 11]);
    assert_eq!(lease_numbers(&fixture, 3).await, [2]);
    assert_eq!(single_turn_count(&fixture), ":0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn single_groups_other_groups_and_messages_without_a_group_share_one_order_of_turns() {
    for max in [1, 2, 3, 10] {
        let fixture = TestQueue::new();
        post_to_group(&fixture, "z", [0]).await;
        post_to_group(&fixture, "y", [1, 2]).await;
        post_to_group(&fixture, "x", [3]).await;
        fixture.post_numbers([4, 5]).await;
        post_to_group(&fixture, "w", [6]).await;
        post_to_group(&fixture, "v", [7]).await;
        post_to_group(&fixture, "u", [8, 9]).await;
        post_to_group(&fixture, "t", [10]).await;
        let mut all = Vec::new();
        while all.len() < 9 {
            let lease_reply = fixture.lease(max).await;
            assert!(!lease_reply.deliveries.is_empty() && lease_reply.deliveries.len() <= max);
            all.extend(numbers(&lease_reply));
            assert_eq!(lease_reply.more_is_ready, all.len() < 9, "{all:?}");
        }
        assert_eq!(all, [0, 1, 3, 4, 6, 7, 8, 10, 5], "{max} a call");
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn a_single_group_that_gets_a_second_message_keeps_its_turn() {
    for max in [1, 2, 9] {
        let fixture = TestQueue::new();
        for (group, number) in [("c", 0), ("b", 1), ("a", 2)] {
            post_to_group(&fixture, group, [number]).await;
        }
        post_to_group(&fixture, "b", [3]).await;
        let mut all = Vec::new();
        while all.len() < 3 {
            all.extend(lease_numbers(&fixture, max).await);
        }
        assert_eq!(all, [0, 1, 2], "{max} a call");
        fixture.assert_clean().await;
    }
    // A group whose second message is cancelled has its turn once, and not as a single group.
    let fixture = TestQueue::new();
    for (group, number) in [("b", 0), ("a", 1), ("b", 2)] {
        post_to_group(&fixture, group, [number]).await;
    }
    cancel_number(&fixture, 2).await;
    fixture.assert_clean().await;
    assert_eq!(lease_numbers(&fixture, 9).await, [0, 1]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn a_group_whose_stored_turn_is_in_either_form_is_served_once() {
    for changes in [vec![], vec![("b", 4)], vec![("a", 4), ("c", 5)], vec![("d", 4)]] {
        let fixture = TestQueue::new();
        for (group, number) in [("d", 0), ("c", 1), ("b", 2), ("a", 3)] {
            post_to_group(&fixture, group, [number]).await;
        }
        // The sorted set `turns` may also have turns of single groups.
        fixture.redis.command("DEL drover:{q}:turns drover:{q}:single_turns");
        for (turn, group) in [(1, "d"), (2, "c")] {
            fixture.redis.command(&format!("ZADD drover:{{q}}:turns {turn} {group}"));
        }
        for group in ["b", "a"] {
            let stored_group = fixture.redis.command(&format!("HGET drover:{{q}}:groups {group}"));
            let id = stored_group.lines().find(|line| line.len() == 14).unwrap();
            fixture.redis.command(&format!("RPUSH drover:{{q}}:single_turns {id}"));
            fixture.redis.command(&format!("HSET drover:{{q}}:meta turn {id}"));
        }
        fixture.assert_clean().await;
        for (group, number) in &changes {
            post_to_group(&fixture, group, [*number]).await;
        }
        fixture.assert_clean().await;
        for max in [1, 2] {
            let first_number = fixture.queue.status().await.unwrap().unwrap().counts.active;
            assert_eq!(
                lease_numbers(&fixture, max).await,
                (first_number..first_number + max as u64).collect::<Vec<u64>>()
            );
        }
        assert_eq!(lease_numbers(&fixture, 5).await, [3]);
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn purge_forgets_single_groups_and_later_ones_stay() {
    let fixture = TestQueue::new();
    let messages = (0..1_000).map(|n| in_group(&format!("user-{n}"), numbered_message(n)));
    fixture.queue.enqueue(messages.collect()).await.unwrap();
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.queue.purge(State::Waiting).await.unwrap(), 999);
    assert_eq!(single_turn_count(&fixture), ":0");
    post_to_group(&fixture, "user-1", [1_000]).await;
    post_to_group(&fixture, "user-0", [1_001]).await;
    assert_eq!(lease_numbers(&fixture, 5).await, [1_000]);
    fixture.complete(&delivery).await;
    assert_eq!(lease_numbers(&fixture, 5).await, [1_001]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn turns_of_groups_that_are_no_longer_single_are_forgotten() {
    for forgets_by_maintenance in [true, false] {
        let fixture = TestQueue::new();
        for first_number in [0, 10_000] {
            for chunk in [0, 1_000, 2_000] {
                let numbers = chunk..chunk + 1_000;
                let messages = numbers.map(|n| in_group(&format!("user-{n}"), numbered_message(first_number + n)));
                fixture.queue.enqueue(messages.collect()).await.unwrap();
            }
        }
        post_to_group(&fixture, "last", [20_000]).await;
        assert_eq!(single_turn_count(&fixture), ":3001");
        if forgets_by_maintenance {
            for _ in 0..4 {
                fixture.queue.maintain().await.unwrap();
            }
            assert_eq!(single_turn_count(&fixture), ":1", "only the turn of a single group is left");
        }
        let mut leased_count = 0;
        for _ in 0..4 {
            leased_count += lease_numbers(&fixture, 1_000).await.len();
        }
        assert_eq!(leased_count, 3_001);
        assert_eq!(single_turn_count(&fixture), ":0");
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn a_post_wakes_consumers_if_the_only_turn_was_of_a_cancelled_message() {
    let fixture = TestQueue::new();
    post_to_group(&fixture, "busy", [0]).await;
    let delivery = fixture.lease_one().await;
    post_to_group(&fixture, "a", [1]).await;
    cancel_number(&fixture, 1).await;
    let publish_count = || {
        let stats = fixture.redis.command("INFO commandstats");
        let publish_line = stats.lines().find(|line| line.starts_with("cmdstat_publish:")).unwrap();
        publish_line.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = publish_count();
    post_to_group(&fixture, "a", [2]).await;
    assert_eq!(publish_count(), before + 1);
    assert_eq!(lease_numbers(&fixture, 5).await, [2]);
    post_to_group(&fixture, "b", [3]).await;
    assert_eq!(publish_count(), before + 2);
    // Consumers are awake while there is a turn.
    post_to_group(&fixture, "c", [4, 5]).await;
    post_to_group(&fixture, "d", [6]).await;
    assert_eq!(publish_count(), before + 2);
    assert_eq!(lease_numbers(&fixture, 5).await, [3, 4, 6]);
    post_to_group(&fixture, "e", [7]).await;
    assert_eq!(publish_count(), before + 3);
    cancel_number(&fixture, 7).await;
    post_to_group(&fixture, "f", [8, 9]).await;
    assert_eq!(publish_count(), before + 4);
    fixture.complete(&delivery).await;
    fixture.assert_clean().await;
}

/// Posts one message to each of this number of groups, named `stale-0` and so on, and returns their ids.
async fn post_to_stale_groups(fixture: &TestQueue, group_count: u64) -> Vec<MessageRef> {
    let mut ids = Vec::new();
    for number in 0..group_count {
        ids.push(fixture.post(in_group(&format!("stale-{number}"), numbered_message(number))).await.id);
    }
    ids
}

async fn cancel_all(fixture: &TestQueue, ids: &[MessageRef]) {
    for id in ids {
        fixture.queue.cancel(id).await.unwrap();
    }
}

#[tokio::test]
async fn lease_call_that_finds_only_turns_of_cancelled_messages_is_to_be_repeated_at_once() {
    let fixture = TestQueue::new();
    let stale_ids = post_to_stale_groups(&fixture, 2_000).await;
    post_to_group(&fixture, "last", [9_000]).await;
    cancel_all(&fixture, &stale_ids).await;
    let first_reply = fixture.lease(1).await;
    assert!(first_reply.deliveries.is_empty() && first_reply.more_is_ready);
    assert_eq!(first_reply.call_again_in, Some(Duration::ZERO));
    assert_eq!(lease_numbers(&fixture, 1).await, [9_000]);
}

#[tokio::test]
async fn no_group_has_its_second_turn_before_the_first_turn_of_another_group_behind_cancelled_messages() {
    let fixture = TestQueue::new();
    post_to_group(&fixture, "first", [8_000]).await;
    for number in 8_001..8_011 {
        fixture.post(numbered_message(number)).await;
    }
    let stale_ids = post_to_stale_groups(&fixture, 1_600).await;
    post_to_group(&fixture, "last", [9_000]).await;
    cancel_all(&fixture, &stale_ids).await;
    let mut leased_numbers = lease_numbers(&fixture, 10).await;
    leased_numbers.extend(lease_numbers(&fixture, 10).await);
    assert_eq!(leased_numbers[..3], [8_000, 8_001, 9_000]);
}

#[tokio::test]
async fn turns_of_cancelled_messages_do_not_gather_behind_a_message_that_is_not_leased() {
    let fixture = TestQueue::new();
    post_to_group(&fixture, "first", [8_000]).await;
    let stale_ids = post_to_stale_groups(&fixture, 2_500).await;
    post_to_group(&fixture, "last", [9_000]).await;
    cancel_all(&fixture, &stale_ids).await;
    assert_eq!(single_turn_count(&fixture), ":2502");
    while fixture.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {}
    // Maintenance leaves up to a thousand stale turns more than twice the number of ready messages.
    assert_eq!(single_turn_count(&fixture), ":504");
    assert_eq!(lease_numbers(&fixture, 10).await, [8_000, 9_000]);
    fixture.assert_clean().await;
}
