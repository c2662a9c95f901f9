//! Operations on one message: cancel, erase, promote and retry.

use queue_core::{Action, Changed, MessageRef, Millis, State};

use crate::{World, delayed, done, failure, number, numbers, pass, prioritized};

async fn one_in_each_state(world: &World) -> Vec<(State, MessageRef)> {
    let completed = world.post(number(0)).await.id;
    world.complete(&world.lease_one().await).await;
    let failed = world.post(number(1)).await.id;
    world.settle(&world.lease_one().await, Action::FailForGood(failure())).await;
    let active = world.post(number(2)).await.id;
    world.lease_one().await;
    let waiting = world.post(number(3)).await.id;
    let delayed = world.post(delayed(4, 60_000)).await.id;
    let ids = vec![
        (State::Delayed, delayed),
        (State::Waiting, waiting),
        (State::Active, active),
        (State::Completed, completed),
        (State::Failed, failed),
    ];
    for (state, id) in &ids {
        assert_eq!(world.read(id).await.state, *state);
    }
    ids
}

#[tokio::test]
async fn message_that_has_not_started_is_cancelled_at_once_and_is_not_delivered() {
    let world = World::new();
    let ids = one_in_each_state(&world).await;
    let other = world.post(number(5)).await;
    let urgent = world.post(prioritized(6, -1)).await.id;
    assert_eq!(world.queue.cancel(&urgent).await.unwrap(), Changed::Done);
    for (state, id) in &ids {
        let changed = world.queue.cancel(id).await.unwrap();
        match state {
            State::Active => assert_eq!(changed, Changed::Requested),
            State::Completed | State::Failed => assert_eq!(changed, Changed::Refused(*state)),
            _ => {
                assert_eq!(changed, Changed::Done);
                let message = world.read(id).await;
                assert_eq!((message.state, message.error.unwrap().code.as_str()), (State::Failed, "cancelled"));
                assert_eq!(world.queue.cancel(id).await.unwrap(), Changed::Refused(State::Failed));
            }
        }
    }
    let unknown = "21718923400017".parse().unwrap();
    assert_eq!(world.queue.cancel(&unknown).await.unwrap(), Changed::Unknown);
    assert_eq!(world.lease_one().await.message.id, other.id);
    assert!(world.lease(10).await.deliveries.is_empty());
    assert_eq!(world.queue.status().await.unwrap().unwrap().totals.cancelled, 3);
    world.assert_clean().await;
}

#[tokio::test]
async fn every_settlement_but_a_completion_fails_a_cancelled_active_message() {
    for action in [Action::Fail(failure()), Action::FailForGood(failure()), Action::Release(None)] {
        let world = World::new();
        let posted = world.post(number(1)).await;
        let delivery = world.lease_one().await;
        world.queue.cancel(&posted.id).await.unwrap();
        let extended = world.queue.extend(std::slice::from_ref(&delivery.lease), None).await.unwrap();
        assert!(matches!(extended[0], queue_core::Extended::ToBeCancelled(_)));
        assert_eq!(world.settle(&delivery, action.clone()).await, Some(State::Failed));
        assert_eq!(
            world.settle(&delivery, action).await,
            Some(State::Failed),
            "a repeated settle gets the first answer"
        );
        assert_eq!(world.read(&posted.id).await.error.unwrap().code, "cancelled");
        world.assert_clean().await;
    }
    let world = World::with_settings(r#"{"visibility_timeout":1500}"#);
    let (completes, dies) = (world.post(number(1)).await.id, world.post(number(2)).await.id);
    let leased = world.lease(2).await;
    for id in [&completes, &dies] {
        world.queue.cancel(id).await.unwrap();
    }
    assert_eq!(world.complete(&leased.deliveries[0]).await, Some(State::Completed));
    pass(1_510).await;
    world.queue.maintain().await.unwrap();
    assert_eq!(world.read(&dies).await.error.unwrap().code, "cancelled");
    assert_eq!(world.redis.command("EXISTS drover:{q}:cancelling"), ":0");
    world.assert_clean().await;
}

#[tokio::test]
async fn an_erased_message_leaves_nothing_behind_and_an_active_one_stays() {
    let world = World::new();
    for (state, id) in one_in_each_state(&world).await {
        let expected = if state == State::Active { Changed::Refused(state) } else { Changed::Done };
        assert_eq!(world.queue.erase(&id).await.unwrap(), expected, "{state:?}");
        let is_erased = world.queue.read(std::slice::from_ref(&id)).await.unwrap().remove(0).is_none();
        assert_eq!(is_erased, state != State::Active);
    }
    let counts = world.queue.status().await.unwrap().unwrap().counts;
    assert_eq!((counts.active, counts.completed + counts.failed + counts.waiting + counts.delayed), (1, 0));
    assert!(world.lease(10).await.deliveries.is_empty());
    assert_eq!(world.redis.command("HLEN drover:{q}:messages"), ":1");
    let own = queue_core::NewMessage { id: Some("mine".parse().unwrap()), ..number(9) };
    let first = world.post(own.clone()).await;
    world.queue.erase(&first.id).await.unwrap();
    world.post(own).await;
    world.assert_clean().await;
}

#[tokio::test]
async fn only_a_delayed_message_is_promoted_and_only_a_failed_one_retried() {
    let world = World::new();
    for (state, id) in one_in_each_state(&world).await {
        let promoted = world.queue.promote(&id).await.unwrap();
        assert_eq!(promoted, if state == State::Delayed { Changed::Done } else { Changed::Refused(state) });
        let state = world.read(&id).await.state;
        let retried = world.queue.retry(&id).await.unwrap();
        assert_eq!(retried, if state == State::Failed { Changed::Done } else { Changed::Refused(state) });
    }
    assert_eq!(numbers(&world.lease(10).await), [3, 4, 1]);
    world.assert_clean().await;
}

#[tokio::test]
async fn retried_message_has_all_its_attempts_again_and_shows_its_last_error() {
    let world = World::with_settings(r#"{"max_attempts":2,"backoff":{"type":"fixed","delay":0}}"#);
    let posted = world.post(number(1)).await;
    for _ in 0..2 {
        world.settle(&world.lease_one().await, Action::Fail(failure())).await;
    }
    assert_eq!(world.queue.retry(&posted.id).await.unwrap(), Changed::Done);
    let message = world.read(&posted.id).await;
    assert_eq!((message.state, message.attempts_made, message.deliveries), (State::Waiting, 0, 2));
    assert_eq!((message.started_at, message.finished_at), (None, None));
    let error = message.error.unwrap();
    assert_eq!((error.code.as_str(), error.attempt), ("boom", 2));
    assert_eq!(world.settle(&world.lease_one().await, Action::Fail(failure())).await, Some(State::Waiting));
    assert_eq!(world.settle(&world.lease_one().await, done()).await, Some(State::Completed));
    world.assert_clean().await;
}

#[tokio::test]
async fn message_cancelled_while_waiting_returns_to_its_position_when_retried() {
    let world = World::new();
    let second = {
        world.post_numbers(0..1).await;
        let id = world.post(number(1)).await.id;
        world.post_numbers(2..4).await;
        id
    };
    for _ in 0..3 {
        world.queue.cancel(&second).await.unwrap();
        world.queue.retry(&second).await.unwrap();
    }
    world.assert_clean().await;
    assert_eq!(numbers(&world.lease(10).await), [0, 1, 2, 3]);
    world.assert_clean().await;
}

#[tokio::test]
async fn promoted_message_is_not_delayed_any_more_and_is_delivered_once() {
    let world = World::new();
    let posted = world.post(delayed(1, 1_500)).await;
    world.queue.promote(&posted.id).await.unwrap();
    let delivery = world.lease_one().await;
    pass(1_520).await;
    assert!(world.lease(1).await.deliveries.is_empty(), "the message is not delivered again at its due time");
    assert_eq!(delivery.message.delay, Millis::new(1_500));
    world.assert_clean().await;
}
