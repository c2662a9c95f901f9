//! Tests of leases: the order of messages, deadlines, lapses, and limits of an answer.

use queue_core::{Extended, LeaseRequest, Millis, NewMessage, Queue, State};
use serde_json::value::RawValue;

use crate::{TestQueue, message_with_delay, message_with_priority, numbered_message, numbers, wait_millis};

#[tokio::test]
async fn messages_of_one_priority_are_leased_in_order_of_posting() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..10).await;
    assert_eq!(numbers(&fixture.lease(4).await), [0, 1, 2, 3]);
    fixture.post_numbers(10..12).await;
    assert_eq!(numbers(&fixture.lease(100).await), [4, 5, 6, 7, 8, 9, 10, 11]);
    assert!(fixture.lease(1).await.deliveries.is_empty());
    fixture.assert_clean().await;
}

#[tokio::test]
async fn messages_with_lower_priority_numbers_are_leased_first() {
    let fixture = TestQueue::new();
    for (data, priority) in [(1, 5), (2, 0), (3, -1), (4, 1), (5, 0), (6, -100), (7, 1), (8, -1)] {
        fixture.post(message_with_priority(data, priority)).await;
    }
    assert_eq!(numbers(&fixture.lease(3).await), [6, 3, 8]);
    assert_eq!(numbers(&fixture.lease(100).await), [2, 5, 4, 7, 1]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn priority_is_kept_through_a_delay() {
    let fixture = TestQueue::new();
    for (data, priority) in [(1, 1), (2, 0), (3, -1)] {
        fixture
            .post(NewMessage { delay: message_with_delay(0, 40).delay, ..message_with_priority(data, priority) })
            .await;
    }
    wait_millis(60).await;
    assert_eq!(numbers(&fixture.lease(10).await), [3, 2, 1]);
}

#[tokio::test]
async fn a_delayed_message_is_never_early_and_equal_due_times_go_in_order() {
    let fixture = TestQueue::new();
    let due_at = fixture.post(message_with_delay(0, 2_000)).await.due_at;
    let message_at_due_time = |data| NewMessage { deliver_at: Some(due_at), ..numbered_message(data) };
    fixture.queue.enqueue((1..200).map(message_at_due_time).collect()).await.unwrap();
    assert_eq!(fixture.read(&fixture.post(message_at_due_time(200)).await.id).await.state, State::Delayed);
    let mut delivered_numbers = Vec::new();
    while delivered_numbers.len() < 201 {
        let lease_reply = fixture.lease(50).await;
        for delivery in &lease_reply.deliveries {
            assert!(delivery.message.started_at.unwrap() >= due_at, "the message is not delivered before its due time");
        }
        delivered_numbers.extend(numbers(&lease_reply));
        if lease_reply.deliveries.is_empty() {
            tokio::time::sleep(lease_reply.call_again_in.expect("a message will be due")).await;
        }
    }
    assert_eq!(delivered_numbers, (0..=200).collect::<Vec<_>>());
    fixture.assert_clean().await;
}

#[tokio::test]
async fn active_message_shows_its_consumer_and_its_start() {
    let fixture = TestQueue::new();
    let posted_message = fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    assert_eq!(delivery.message.id, posted_message.id);
    let read_message = fixture.read(&posted_message.id).await;
    assert_eq!(serde_json::to_value(&read_message).unwrap(), serde_json::to_value(&delivery.message).unwrap());
    assert_eq!((read_message.state, read_message.deliveries, read_message.attempts_made), (State::Active, 1, 0));
    assert_eq!(read_message.consumer.as_ref(), Some(&fixture.consumer));
    assert_eq!(read_message.started_at.unwrap() + Millis::from_secs(30), delivery.lease_expires_at);
}

#[tokio::test]
async fn lease_has_its_own_visibility_timeout_or_that_of_the_queue() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"5s"}"#);
    fixture.post_numbers(0..2).await;
    let reply_with_queue_timeout = fixture.lease(1).await;
    assert_eq!(reply_with_queue_timeout.visibility_timeout, Millis::from_secs(5));
    let request_with_own_timeout =
        LeaseRequest { visibility_timeout: Some(Millis::from_secs(7)), ..fixture.request(1) };
    let reply_with_own_timeout = fixture.queue.lease(&request_with_own_timeout).await.unwrap();
    assert_eq!(reply_with_own_timeout.visibility_timeout, Millis::from_secs(7));
}

#[tokio::test]
async fn message_of_a_lapsed_lease_returns_to_the_head_of_the_waiting_list_and_counts_the_lapse() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":1500}"#);
    fixture.post_numbers(0..4).await;
    assert_eq!(numbers(&fixture.lease(2).await), [0, 1]);
    let first_lease_reply = fixture.lease(1).await;
    assert_eq!(numbers(&first_lease_reply), [2]);
    wait_millis(1_510).await;
    let second_lease_reply = fixture.lease(10).await;
    assert_eq!(numbers(&second_lease_reply), [0, 1, 2, 3]);
    let lapses: Vec<u32> = second_lease_reply.deliveries.iter().map(|delivery| delivery.message.lapses).collect();
    assert_eq!(lapses, [1, 1, 1, 0]);
    assert_eq!(second_lease_reply.deliveries[0].message.deliveries, 2);
    assert_eq!(second_lease_reply.deliveries[0].message.attempts_made, 0, "a lapse is not an attempt");
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.lapsed, 3);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn a_message_that_kills_its_workers_ends_as_failed() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":100,"max_lapses":2}"#);
    let posted_message = fixture.post(numbered_message(1)).await;
    for _ in 0..2 {
        fixture.lease_one().await;
        wait_millis(110).await;
    }
    assert!(fixture.lease(1).await.deliveries.is_empty());
    let message = fixture.read(&posted_message.id).await;
    assert_eq!((message.state, message.lapses, message.attempts_made), (State::Failed, 2, 0));
    assert_eq!(message.error.unwrap().code, "lease_lapsed");
    fixture.assert_clean().await;
}

/// Leases and completes messages as consumers that die when they get one of the messages `killers`. Returns the numbers that
/// are the data of the failed messages.
async fn failed_messages_beside_killers(
    fixture: &TestQueue,
    killers: &[u64],
    max_lapses: usize,
    batch: usize,
) -> Vec<u64> {
    let mut ids = std::collections::HashMap::new();
    // The leases of each message in `killers` lapse `max_lapses` times, and the last round of this loop leases no
    // message.
    for _ in 0..=max_lapses * killers.len() {
        loop {
            let lease_reply = fixture.lease(batch).await;
            ids.extend(
                numbers(&lease_reply)
                    .into_iter()
                    .zip(lease_reply.deliveries.iter().map(|delivery| delivery.message.id.clone())),
            );
            if lease_reply.deliveries.is_empty() || numbers(&lease_reply).iter().any(|number| killers.contains(number))
            {
                break;
            }
            if lease_reply.goes_alone {
                assert_eq!(lease_reply.deliveries.len(), 1);
            }
            for delivery in &lease_reply.deliveries {
                fixture.complete(delivery).await.unwrap();
            }
        }
        wait_millis(410).await;
    }
    let mut failed_ids = Vec::new();
    for (number, id) in ids {
        match fixture.read(&id).await.state {
            State::Failed => failed_ids.push(number),
            state => assert_eq!(state, State::Completed, "{number}"),
        }
    }
    failed_ids.sort_unstable();
    failed_ids
}

#[tokio::test]
async fn a_message_that_kills_its_worker_takes_no_other_message_with_it() {
    for (max_lapses, killers) in [(3, vec![0]), (2, vec![0]), (3, vec![7]), (2, vec![3, 20]), (5, vec![0, 1, 2])] {
        let settings = format!(r#"{{"visibility_timeout":400,"max_lapses":{max_lapses}}}"#);
        let fixture = TestQueue::with_settings(&settings);
        fixture.post_numbers(0..100).await;
        assert_eq!(
            failed_messages_beside_killers(&fixture, &killers, max_lapses, 10).await,
            killers,
            "{max_lapses} lapses"
        );
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn message_is_leased_alone_before_its_last_lapse_at_every_priority() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":1000,"max_lapses":2}"#);
    for priority in [-1, -1, 0, 0, 1, 1] {
        fixture.post(message_with_priority(0, priority)).await;
    }
    assert_eq!(fixture.lease(10).await.deliveries.len(), 6);
    wait_millis(1010).await;
    fixture.post(message_with_priority(0, -2)).await;
    let first_lease_reply = fixture.lease(10).await;
    assert_eq!(
        (numbers(&first_lease_reply).len(), first_lease_reply.goes_alone, first_lease_reply.more_is_ready),
        (1, false, true)
    );
    for _ in 0..6 {
        let lone_lease_reply = fixture.lease(10).await;
        assert_eq!((lone_lease_reply.deliveries.len(), lone_lease_reply.goes_alone), (1, true));
        assert_eq!(lone_lease_reply.deliveries[0].message.lapses, 1);
    }
    assert!(fixture.lease(10).await.deliveries.is_empty());
    fixture.assert_clean().await;
}

#[tokio::test]
async fn messages_of_undone_leases_return_to_the_head_as_if_they_had_never_been_leased() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..6).await;
    let (first, second) = (fixture.lease(2).await, fixture.lease(2).await);
    let tokens =
        [&first, &second].into_iter().flat_map(|leased| &leased.deliveries).map(|delivery| delivery.lease.clone());
    let tokens: Vec<_> = tokens.collect();
    fixture.complete(&first.deliveries[0]).await.unwrap();
    assert_eq!(fixture.queue.undo_leases(&tokens).await.unwrap(), 3, "the completed message is left alone");
    assert_eq!(fixture.queue.undo_leases(&tokens).await.unwrap(), 0, "the call may be repeated");
    let second_lease_reply = fixture.lease(10).await;
    assert_eq!(numbers(&second_lease_reply), [1, 2, 3, 4, 5]);
    assert!(second_lease_reply.deliveries.iter().all(|delivery| delivery.message.deliveries == 1));
    fixture.assert_clean().await;
}

#[tokio::test]
async fn next_wake_up_is_the_earliest_due_time_or_deadline() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"10s"}"#);
    fixture.queue.declare().await.unwrap();
    assert_eq!(fixture.lease(1).await.call_again_in, None, "no message will be due");
    fixture.post(message_with_delay(1, 5_000)).await;
    let pause = fixture.lease(1).await.call_again_in.unwrap().as_millis();
    assert!((2_000..=5_000).contains(&pause), "{pause}");
    fixture.post(numbered_message(2)).await;
    let short_lease_request = LeaseRequest { visibility_timeout: Some(Millis::from_secs(1)), ..fixture.request(1) };
    assert_eq!(fixture.queue.lease(&short_lease_request).await.unwrap().deliveries.len(), 1);
    let pause = fixture.lease(1).await.call_again_in.unwrap().as_millis();
    assert!((1..=1_000).contains(&pause), "the lease lapses before the message is due: {pause}");
}

#[tokio::test]
async fn lease_response_has_at_most_four_mebibytes_and_other_messages_keep_their_order() {
    let fixture = TestQueue::new();
    let large_message = |priority: i64| NewMessage {
        data: RawValue::from_string(format!("\"{}\"", "x".repeat(900_000))).unwrap(),
        ..message_with_priority(0, priority)
    };
    let mut expected_ids = Vec::new();
    for priority in [-1, -1, 0, 0, 0, 0, 0, 1, 1] {
        expected_ids.push(fixture.post(large_message(priority)).await.id);
    }
    let mut delivered_ids = Vec::new();
    for _ in 0..3 {
        let lease_reply = fixture.lease(100).await;
        let bytes: usize = lease_reply.deliveries.iter().map(|delivery| delivery.message.data.get().len()).sum();
        assert!(bytes <= queue_core::Queue::MAX_BYTES);
        delivered_ids.extend(lease_reply.deliveries.into_iter().map(|delivery| delivery.message.id));
    }
    assert_eq!(delivered_ids, expected_ids);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn lease_ends_one_grace_period_after_the_timeout_of_its_run() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"1h","timeout":700}"#);
    let message_with_timeout =
        NewMessage { timeout: Some(Millis::new(900).try_into().unwrap()), ..numbered_message(2) };
    fixture.queue.enqueue(vec![numbered_message(1), message_with_timeout]).await.unwrap();
    for delivery in fixture.lease(2).await.deliveries {
        let last_deadline = delivery.message.started_at.unwrap() + delivery.timeout.unwrap() + Queue::RUN_TIMEOUT_GRACE;
        assert_eq!(delivery.lease_expires_at, last_deadline);
        let extend_outcomes = fixture.queue.extend(std::slice::from_ref(&delivery.lease), None).await.unwrap();
        assert_eq!(extend_outcomes, [Extended::Until(last_deadline)], "an extension does not pass the timeout");
    }
}

#[tokio::test]
async fn malformed_record_fails_and_blocks_no_other_message() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..3).await;
    let broken_message = fixture.post(numbered_message(3)).await;
    fixture.post_numbers(4..6).await;
    fixture.redis.command(&format!("HSET drover:{{q}}:messages {} garbage", broken_message.id));
    assert_eq!(numbers(&fixture.lease(10).await), [0, 1, 2, 4, 5]);
    let message = fixture.read(&broken_message.id).await;
    assert_eq!(message.state, State::Failed);
    assert_eq!(message.error.unwrap().code, "malformed_record");
    let unreadable_message = fixture.post(numbered_message(6)).await;
    fixture.post_numbers(7..9).await;
    fixture.redis.command(&format!("HSET drover:{{q}}:options {} \"\\xff\"", unreadable_message.id));
    assert_eq!(numbers(&fixture.lease(10).await), [7, 8]);
    fixture.redis.command(&format!("HDEL drover:{{q}}:options {}", unreadable_message.id));
    assert_eq!(fixture.read(&unreadable_message.id).await.state, State::Failed);
    fixture.assert_clean().await;
}
