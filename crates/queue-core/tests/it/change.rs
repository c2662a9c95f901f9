//! Tests of the operations on one message: cancel, erase, promote and retry.

use queue_core::{Action, Changed, MessageRef, Millis, State};

use crate::{
    TestQueue, completion, failure, message_with_delay, message_with_priority, numbered_message, numbers, wait_millis,
};

async fn one_in_each_state(fixture: &TestQueue) -> Vec<(State, MessageRef)> {
    let completed_id = fixture.post(numbered_message(0)).await.id;
    fixture.complete(&fixture.lease_one().await).await;
    let failed_id = fixture.post(numbered_message(1)).await.id;
    fixture.settle(&fixture.lease_one().await, Action::FailForGood(failure())).await;
    let active_id = fixture.post(numbered_message(2)).await.id;
    fixture.lease_one().await;
    let waiting_id = fixture.post(numbered_message(3)).await.id;
    let delayed_id = fixture.post(message_with_delay(4, 60_000)).await.id;
    let ids = vec![
        (State::Delayed, delayed_id),
        (State::Waiting, waiting_id),
        (State::Active, active_id),
        (State::Completed, completed_id),
        (State::Failed, failed_id),
    ];
    for (state, id) in &ids {
        assert_eq!(fixture.read(id).await.state, *state);
    }
    ids
}

#[tokio::test]
async fn message_that_has_not_started_is_cancelled_at_once_and_is_not_delivered() {
    let fixture = TestQueue::new();
    let ids = one_in_each_state(&fixture).await;
    let other_message = fixture.post(numbered_message(5)).await;
    let urgent_id = fixture.post(message_with_priority(6, -1)).await.id;
    assert_eq!(fixture.queue.cancel(&urgent_id).await.unwrap(), Changed::Done);
    for (state, id) in &ids {
        let change_outcome = fixture.queue.cancel(id).await.unwrap();
        match state {
            State::Active => assert_eq!(change_outcome, Changed::Requested),
            State::Completed | State::Failed => assert_eq!(change_outcome, Changed::Refused(*state)),
            _ => {
                assert_eq!(change_outcome, Changed::Done);
                let message = fixture.read(id).await;
                assert_eq!((message.state, message.error.unwrap().code.as_str()), (State::Failed, "cancelled"));
                assert_eq!(fixture.queue.cancel(id).await.unwrap(), Changed::Refused(State::Failed));
            }
        }
    }
    let unknown_id = "21718923400017".parse().unwrap();
    assert_eq!(fixture.queue.cancel(&unknown_id).await.unwrap(), Changed::Unknown);
    assert_eq!(fixture.lease_one().await.message.id, other_message.id);
    assert!(fixture.lease(10).await.deliveries.is_empty());
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.cancelled, 3);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn every_settlement_except_a_completion_fails_a_cancelled_active_message() {
    for action in [Action::Fail(failure()), Action::FailForGood(failure()), Action::Release(None)] {
        let fixture = TestQueue::new();
        let posted_message = fixture.post(numbered_message(1)).await;
        let delivery = fixture.lease_one().await;
        fixture.queue.cancel(&posted_message.id).await.unwrap();
        let extend_outcomes = fixture.queue.extend(std::slice::from_ref(&delivery.lease), None).await.unwrap();
        assert!(matches!(extend_outcomes[0], queue_core::Extended::ToBeCancelled(_)));
        assert_eq!(fixture.settle(&delivery, action.clone()).await, Some(State::Failed));
        assert_eq!(
            fixture.settle(&delivery, action).await,
            Some(State::Failed),
            "a repeated settle gets the first answer"
        );
        assert_eq!(fixture.read(&posted_message.id).await.error.unwrap().code, "cancelled");
        fixture.assert_clean().await;
    }
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":1500}"#);
    let (completes, dies) = (fixture.post(numbered_message(1)).await.id, fixture.post(numbered_message(2)).await.id);
    let lease_reply = fixture.lease(2).await;
    for id in [&completes, &dies] {
        fixture.queue.cancel(id).await.unwrap();
    }
    assert_eq!(fixture.complete(&lease_reply.deliveries[0]).await, Some(State::Completed));
    wait_millis(1_510).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.read(&dies).await.error.unwrap().code, "cancelled");
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:cancelling"), ":0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn erased_message_leaves_nothing_behind_and_an_active_message_can_not_be_erased() {
    let fixture = TestQueue::new();
    for (state, id) in one_in_each_state(&fixture).await {
        let expected_outcome = if state == State::Active { Changed::Refused(state) } else { Changed::Done };
        assert_eq!(fixture.queue.erase(&id).await.unwrap(), expected_outcome, "{state:?}");
        let is_erased = fixture.queue.read(std::slice::from_ref(&id)).await.unwrap().remove(0).is_none();
        assert_eq!(is_erased, state != State::Active);
    }
    let counts = fixture.queue.status().await.unwrap().unwrap().counts;
    assert_eq!((counts.active, counts.completed + counts.failed + counts.waiting + counts.delayed), (1, 0));
    assert!(fixture.lease(10).await.deliveries.is_empty());
    assert_eq!(fixture.redis.command("HLEN drover:{q}:messages"), ":1");
    let message_with_own_id = queue_core::NewMessage { id: Some("mine".parse().unwrap()), ..numbered_message(9) };
    let first_message = fixture.post(message_with_own_id.clone()).await;
    fixture.queue.erase(&first_message.id).await.unwrap();
    fixture.post(message_with_own_id).await;
    fixture.assert_clean().await;
}

#[tokio::test]
async fn only_a_delayed_message_is_promoted_and_only_a_failed_message_is_retried() {
    let fixture = TestQueue::new();
    for (state, id) in one_in_each_state(&fixture).await {
        let promote_outcome = fixture.queue.promote(&id).await.unwrap();
        assert_eq!(promote_outcome, if state == State::Delayed { Changed::Done } else { Changed::Refused(state) });
        let state = fixture.read(&id).await.state;
        let retry_outcome = fixture.queue.retry(&id).await.unwrap();
        assert_eq!(retry_outcome, if state == State::Failed { Changed::Done } else { Changed::Refused(state) });
    }
    assert_eq!(numbers(&fixture.lease(10).await), [3, 4, 1]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn retried_message_has_all_its_attempts_again_and_shows_its_last_error() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":2,"backoff":{"type":"fixed","delay":0}}"#);
    let posted_message = fixture.post(numbered_message(1)).await;
    for _ in 0..2 {
        fixture.settle(&fixture.lease_one().await, Action::Fail(failure())).await;
    }
    assert_eq!(fixture.queue.retry(&posted_message.id).await.unwrap(), Changed::Done);
    let message = fixture.read(&posted_message.id).await;
    assert_eq!((message.state, message.attempts_made, message.deliveries), (State::Waiting, 0, 2));
    assert_eq!((message.started_at, message.finished_at), (None, None));
    let error = message.error.unwrap();
    assert_eq!((error.code.as_str(), error.attempt), ("boom", 2));
    assert_eq!(fixture.settle(&fixture.lease_one().await, Action::Fail(failure())).await, Some(State::Waiting));
    assert_eq!(fixture.settle(&fixture.lease_one().await, completion()).await, Some(State::Completed));
    fixture.assert_clean().await;
}

#[tokio::test]
async fn message_cancelled_while_waiting_returns_to_its_position_when_retried() {
    let fixture = TestQueue::new();
    let second_message = {
        fixture.post_numbers(0..1).await;
        let id = fixture.post(numbered_message(1)).await.id;
        fixture.post_numbers(2..4).await;
        id
    };
    for _ in 0..3 {
        fixture.queue.cancel(&second_message).await.unwrap();
        fixture.queue.retry(&second_message).await.unwrap();
    }
    fixture.assert_clean().await;
    assert_eq!(numbers(&fixture.lease(10).await), [0, 1, 2, 3]);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn promoted_message_is_not_delayed_any_more_and_is_delivered_once() {
    let fixture = TestQueue::new();
    let posted_message = fixture.post(message_with_delay(1, 1_500)).await;
    fixture.queue.promote(&posted_message.id).await.unwrap();
    let delivery = fixture.lease_one().await;
    wait_millis(1_520).await;
    assert!(fixture.lease(1).await.deliveries.is_empty(), "the message is not delivered again at its due time");
    assert_eq!(delivery.message.delay, Millis::new(1_500));
    fixture.assert_clean().await;
}
