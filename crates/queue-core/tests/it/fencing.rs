//! Tests of the tokens of leases: a stale token changes nothing.

use queue_core::{Action, Extended, LeaseToken, Millis, NewMessage, Settlement, State};

use crate::{
    TestQueue, completion, failure, message_with_delay, message_with_priority, numbered_message, numbers, wait_millis,
};

#[tokio::test]
async fn a_completed_message_keeps_its_result() {
    let fixture = TestQueue::new();
    let posted_message = fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.complete(&delivery).await, Some(State::Completed));
    let message = fixture.read(&posted_message.id).await;
    assert_eq!((message.state, message.attempts_made, message.deliveries), (State::Completed, 1, 1));
    assert_eq!(message.result.unwrap().get(), "\"done\"");
    assert!(message.finished_at.unwrap() >= message.started_at.unwrap());
    assert_eq!(message.consumer.as_ref(), Some(&fixture.consumer));
    fixture.assert_clean().await;
}

#[tokio::test]
async fn stale_token_changes_nothing_and_is_refused() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":100}"#);
    fixture.post(numbered_message(1)).await;
    let lost_delivery = fixture.lease_one().await;
    wait_millis(120).await;
    let second_delivery = fixture.lease_one().await;
    assert_ne!(lost_delivery.lease, second_delivery.lease);
    let hold = Action::Hold("key".parse().unwrap());
    for action in [completion(), Action::Fail(failure()), Action::FailForGood(failure()), Action::Release(None), hold] {
        assert_eq!(fixture.settle(&lost_delivery, action).await, None);
    }
    assert_eq!(
        fixture.queue.extend(std::slice::from_ref(&lost_delivery.lease), None).await.unwrap(),
        [Extended::LeaseOver]
    );
    assert_eq!(fixture.complete(&second_delivery).await, Some(State::Completed));
    assert_eq!(fixture.complete(&lost_delivery).await, None, "a result is never overwritten");
    let token: LeaseToken = format!("{}-{}", second_delivery.lease.id(), "A".repeat(22)).parse().unwrap();
    let guessed_settlement = Settlement { lease: token, action: completion() };
    assert_eq!(fixture.queue.settle(&[guessed_settlement]).await.unwrap(), [None]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn repeated_settlement_gets_the_answer_of_the_first_settlement() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":"1h"}}"#);
    let cases = [
        (completion(), State::Completed),
        (Action::FailForGood(failure()), State::Failed),
        (Action::Fail(failure()), State::Delayed),
        (Action::FailAndRetryAfter(failure(), Millis::ZERO), State::Waiting),
        (Action::Release(None), State::Waiting),
        (Action::Release(Some(Millis::from_hours(1))), State::Delayed),
        (Action::Hold("key".parse().unwrap()), State::Held),
    ];
    for (action, state) in cases {
        fixture.post(numbered_message(1)).await;
        let delivery = fixture.lease_one().await;
        for round in 0..3 {
            assert_eq!(fixture.settle(&delivery, action.clone()).await, Some(state), "{action:?}, {round}");
        }
        // A settlement that differs from the first settlement is refused.
        let other_action = if state == State::Completed { Action::Fail(failure()) } else { completion() };
        assert_eq!(fixture.settle(&delivery, other_action).await, None, "after {action:?}");
        for left in fixture.lease(10).await.deliveries {
            fixture.complete(&left).await;
        }
        fixture.assert_clean().await;
    }
    let totals = fixture.queue.status().await.unwrap().unwrap().totals;
    assert_eq!((totals.completed, totals.failed, totals.retried), (3, 1, 2), "each message is counted once");
}

#[tokio::test]
async fn repeated_settlement_is_recognized_even_after_the_message_was_leased_again() {
    let fixture = TestQueue::new();
    fixture.post(numbered_message(1)).await;
    let first_delivery = fixture.lease_one().await;
    let release = || Action::Release(None);
    assert_eq!(fixture.settle(&first_delivery, release()).await, Some(State::Waiting));
    let second_delivery = fixture.lease_one().await;
    assert_eq!(fixture.settle(&first_delivery, release()).await, Some(State::Waiting));
    assert_eq!(fixture.complete(&second_delivery).await, Some(State::Completed), "the second lease was not touched");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn settlement_that_is_twice_in_a_batch_counts_once() {
    let fixture = TestQueue::new();
    fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    let settlement = Settlement { lease: delivery.lease, action: completion() };
    let settle_outcomes = fixture.queue.settle(&[settlement.clone(), settlement]).await.unwrap();
    assert_eq!(settle_outcomes, [Some(State::Completed); 2]);
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.completed, 1);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn a_lapsed_lease_may_still_complete_until_the_message_is_leased_again() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":1500}"#);
    fixture.post(numbered_message(1)).await;
    fixture.post(message_with_priority(2, 5)).await;
    fixture.post(numbered_message(3)).await;
    let late_lease_reply = fixture.lease(3).await;
    wait_millis(1_550).await;
    assert_eq!(
        fixture.queue.extend(&[late_lease_reply.deliveries[0].lease.clone()], None).await.unwrap(),
        [Extended::LeaseOver]
    );
    // Another consumer recovers the lapsed leases and takes one message; the other messages are in the waiting list again.
    fixture.post(message_with_priority(0, -1)).await;
    assert_eq!(numbers(&fixture.lease(1).await), [0]);
    assert_eq!(fixture.settle(&late_lease_reply.deliveries[0], Action::Fail(failure())).await, None);
    for delivery in &late_lease_reply.deliveries {
        assert_eq!(fixture.complete(delivery).await, Some(State::Completed));
        assert_eq!(fixture.complete(delivery).await, Some(State::Completed));
    }
    fixture.assert_clean().await;
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 0);
    assert!(fixture.lease(10).await.deliveries.is_empty(), "completed messages are not handed out");
    fixture.post(numbered_message(4)).await;
    assert_eq!(numbers(&fixture.lease(10).await), [4]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn an_extended_lease_does_not_lapse() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":1500}"#);
    fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    for _ in 0..3 {
        wait_millis(800).await;
        let extend_outcomes = fixture.queue.extend(std::slice::from_ref(&delivery.lease), None).await.unwrap();
        assert!(matches!(extend_outcomes[0], Extended::Until(_)));
        assert!(fixture.lease(1).await.deliveries.is_empty());
    }
    assert_eq!(fixture.complete(&delivery).await, Some(State::Completed));
}

#[tokio::test]
async fn released_messages_return_to_the_head_in_their_order_without_an_attempt() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..5).await;
    let lease_reply = fixture.lease(3).await;
    let releases: Vec<Settlement> = lease_reply
        .deliveries
        .iter()
        .rev()
        .map(|delivery| Settlement { lease: delivery.lease.clone(), action: Action::Release(None) })
        .collect();
    fixture.queue.settle(&releases).await.unwrap();
    let second_lease_reply = fixture.lease(10).await;
    assert_eq!(numbers(&second_lease_reply), [0, 1, 2, 3, 4]);
    assert_eq!(
        (second_lease_reply.deliveries[0].message.attempts_made, second_lease_reply.deliveries[0].message.deliveries),
        (0, 2)
    );
    fixture.assert_clean().await;
}

#[tokio::test]
async fn released_message_is_delayed_by_the_given_pause() {
    let fixture = TestQueue::new();
    fixture.post(NewMessage { priority: "3".parse().unwrap(), ..message_with_delay(1, 0) }).await;
    let delivery = fixture.lease_one().await;
    let state = fixture.settle(&delivery, Action::Release(Some(Millis::new(1_000)))).await;
    assert_eq!(state, Some(State::Delayed));
    assert!(fixture.lease(1).await.deliveries.is_empty());
    wait_millis(1_010).await;
    assert_eq!(numbers(&fixture.lease(1).await), [1]);
}
