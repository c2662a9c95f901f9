//! Idempotency keys and own ids: repeated posts store nothing.

use std::sync::Arc;

use queue_core::{Action, Changed, Enqueued, Error, NewMessage};

use crate::{World, failure, number, numbers, pass};

#[tokio::test]
async fn repeated_request_is_answered_with_the_same_messages_and_a_different_one_is_refused() {
    let world = World::new();
    let own = NewMessage { id: Some("own".parse().unwrap()), ..number(1) };
    world.post(own.clone()).await;
    let batch = || vec![number(0), own.clone(), number(2), number(3)];
    let first = world.queue.enqueue_once(batch(), &"k".parse().unwrap(), "abc").await.unwrap();
    assert!(matches!(
        first[..],
        [Enqueued::Created(_), Enqueued::Duplicate(..), Enqueued::Created(_), Enqueued::Created(_)]
    ));
    let again = world.queue.enqueue_once(batch(), &"k".parse().unwrap(), "abc").await.unwrap();
    assert!(again.iter().all(|enqueued| matches!(enqueued, Enqueued::Duplicate(..))));
    let ids = |all: &[Enqueued]| all.iter().map(Enqueued::id).cloned().collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&again));
    let reused = world.queue.enqueue_once(vec![number(9)], &"k".parse().unwrap(), "abd").await;
    assert!(matches!(reused, Err(Error::KeyReused)));
    world.queue.enqueue_once(vec![number(4)], &"l".parse().unwrap(), "abc").await.unwrap();
    assert_eq!(numbers(&world.lease(10).await), [1, 0, 2, 3, 4]);
    assert_eq!(world.queue.status().await.unwrap().unwrap().totals.enqueued, 5);
    world.assert_clean().await;
}

#[tokio::test]
async fn a_key_is_forgotten_after_the_window_and_leaves_nothing() {
    let world = World::with_settings(r#"{"idempotency_window":"1s"}"#);
    world.queue.enqueue_once(vec![number(0)], &"k".parse().unwrap(), "a").await.unwrap();
    pass(1_010).await;
    let again = world.queue.enqueue_once(vec![number(1)], &"k".parse().unwrap(), "b").await.unwrap();
    assert!(matches!(again[..], [Enqueued::Created(_)]));
    pass(1_010).await;
    world.queue.maintain().await.unwrap();
    assert_eq!(world.redis.command("EXISTS drover:{q}:dedup drover:{q}:dedup_until"), ":0");
}

#[tokio::test]
async fn repeated_post_of_a_forgotten_message_stores_nothing() {
    let world = World::with_settings(r#"{"retention":{"completed":{"count":0}}}"#);
    let first = world.queue.enqueue_once(vec![number(0)], &"k".parse().unwrap(), "a").await.unwrap();
    world.complete(&world.lease_one().await).await;
    let again = world.queue.enqueue_once(vec![number(0)], &"k".parse().unwrap(), "a").await.unwrap();
    assert!(matches!(&again[..], [Enqueued::Forgotten(id)] if id.as_str() == first[0].id().as_str()));
    assert!(world.lease(1).await.deliveries.is_empty());
}

#[tokio::test]
async fn concurrent_posts_with_one_key_or_one_id_store_one_message() {
    let world = Arc::new(World::new());
    let posts = (0..40).map(|n| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            if n % 2 == 0 {
                world.queue.enqueue_once(vec![number(1)], &"key".parse().unwrap(), "same").await.unwrap()
            } else {
                let own = NewMessage { id: Some("own".parse().unwrap()), ..number(2) };
                world.queue.enqueue(vec![own.clone(), own]).await.unwrap()
            }
        })
    });
    let mut created = 0;
    for post in posts.collect::<Vec<_>>() {
        let enqueued = post.await.unwrap();
        created += enqueued.iter().filter(|enqueued| matches!(enqueued, Enqueued::Created(_))).count();
    }
    assert_eq!(created, 2);
    assert_eq!(world.lease(10).await.deliveries.len(), 2);
    world.assert_clean().await;
}

#[tokio::test]
async fn a_full_queue_stores_nothing_and_takes_more_when_something_has_finished() {
    let world = World::with_settings(r#"{"max_length":5}"#);
    world.post_numbers(0..2).await;
    world.post(crate::delayed(2, 60_000)).await;
    world.post(NewMessage { hold: Some("k".parse().unwrap()), ..number(3) }).await;
    let delivery = world.lease_one().await;
    let urgent = world.post(crate::prioritized(4, -1)).await;
    let full = world.queue.enqueue(vec![number(5), number(6)]).await;
    assert!(matches!(full, Err(Error::QueueFull(5))), "a message counts in any state and of any priority");
    world.queue.erase(&urgent.id).await.unwrap();
    let two = world.queue.enqueue(vec![number(4), number(5)]).await;
    assert!(matches!(two, Err(Error::QueueFull(5))));
    assert_eq!(world.queue.status().await.unwrap().unwrap().totals.enqueued, 5, "neither message is stored");
    let own = NewMessage { id: Some("own".parse().unwrap()), ..number(4) };
    world.post(own.clone()).await;
    assert!(matches!(world.queue.enqueue(vec![number(6)]).await, Err(Error::QueueFull(5))));
    let again = world.queue.enqueue(vec![own]).await.unwrap();
    assert!(matches!(again[..], [Enqueued::Duplicate(..)]), "a duplicate needs no room");
    let keyed = world.queue.enqueue_once(vec![number(6)], &"k".parse().unwrap(), "a").await;
    assert!(matches!(keyed, Err(Error::QueueFull(5))));
    world.complete(&delivery).await;
    let keyed = world.queue.enqueue_once(vec![number(6)], &"k".parse().unwrap(), "a").await.unwrap();
    assert!(matches!(keyed[..], [Enqueued::Created(_)]), "a refusal is not remembered");
    assert_eq!(world.queue.cancel(keyed[0].id()).await.unwrap(), Changed::Done);
    world.post(number(7)).await;
    world.assert_clean().await;
}

fn own(id: &str, data: u64) -> NewMessage {
    NewMessage { id: Some(id.parse().unwrap()), ..number(data) }
}

async fn is_taken(world: &World, id: &str) -> bool {
    match world.queue.enqueue(vec![own(id, 9)]).await.unwrap().remove(0) {
        Enqueued::Created(_) => false,
        Enqueued::Forgotten(own) => own.as_str() == id,
        other @ Enqueued::Duplicate(..) => panic!("the message is still kept: {other:?}"),
    }
}

#[tokio::test]
async fn an_own_id_stays_taken_for_its_window_after_its_message_is_forgotten() {
    // The messages are forgotten when they finish, or by age.
    for keep in [r#"{"count":0}"#, r#"{"age":1,"min_age":0}"#] {
        let settings =
            format!(r#"{{"id_window":2000,"max_attempts":1,"retention":{{"completed":{keep},"failed":{keep}}}}}"#);
        let world = World::with_settings(&settings);
        world.queue.enqueue(vec![own("completed", 1), own("failed", 2), number(3)]).await.unwrap();
        let deliveries = world.lease(3).await.deliveries;
        world.complete(&deliveries[0]).await;
        world.settle(&deliveries[1], Action::Fail(failure())).await;
        world.complete(&deliveries[2]).await;
        pass(5).await;
        world.queue.maintain().await.unwrap();
        assert_eq!(
            world.redis.command("EXISTS drover:{q}:messages drover:{q}:aliases"),
            ":0",
            "the messages are forgotten"
        );
        for id in ["completed", "failed"] {
            assert!(is_taken(&world, id).await, "{id}");
        }
        let batch = vec![number(4), own("completed", 5), number(6)];
        let enqueued = world.queue.enqueue(batch).await.unwrap();
        assert!(matches!(enqueued[..], [Enqueued::Created(_), Enqueued::Forgotten(_), Enqueued::Created(_)]));
        pass(2_050).await;
        for id in ["completed", "failed"] {
            assert!(!is_taken(&world, id).await, "{id}: its window is over");
        }
        world.queue.purge(queue_core::State::Waiting).await.unwrap();
        world.queue.maintain().await.unwrap();
        assert_eq!(world.redis.command("EXISTS drover:{q}:taken"), ":0", "no own id is left");
        world.assert_clean().await;
    }
}

#[tokio::test]
async fn without_a_window_an_own_id_is_free_when_its_message_is_forgotten() {
    let world = World::with_settings(r#"{"id_window":0,"retention":{"completed":{"count":0}}}"#);
    world.post(own("a", 1)).await;
    world.complete(&world.lease_one().await).await;
    assert_eq!(world.redis.command("EXISTS drover:{q}:taken"), ":0");
    assert!(!is_taken(&world, "a").await);
}

#[tokio::test]
async fn erasing_and_purging_free_own_ids_at_once() {
    let world = World::with_settings(r#"{"max_attempts":1}"#);
    for state in ["completed", "failed", "waiting", "delayed"] {
        let message = NewMessage {
            delay: (state == "delayed").then(|| queue_core::Millis::from_secs(60).try_into().unwrap()),
            ..own("a", 1)
        };
        let erased = world.post(message.clone()).await.id;
        let finish = async || {
            for delivery in world.lease(1).await.deliveries {
                let action = if state == "failed" { Action::Fail(failure()) } else { crate::done() };
                world.settle(&delivery, action).await;
            }
        };
        if state != "waiting" {
            finish().await;
        }
        assert_eq!(world.queue.erase(&erased).await.unwrap(), Changed::Done, "{state}");
        world.post(message).await;
        if state != "waiting" {
            finish().await;
        }
        assert_eq!(world.queue.purge(state.parse().unwrap()).await.unwrap(), 1, "{state}");
        assert!(!is_taken(&world, "a").await, "{state}");
        world.queue.purge(queue_core::State::Waiting).await.unwrap();
    }
    world.assert_clean().await;
}

#[tokio::test]
async fn own_ids_of_ten_thousand_messages_are_swept_in_steps() {
    let world = World::with_settings(r#"{"id_window":300,"retention":{"completed":{"count":0}}}"#);
    for thousand in 0..10 {
        let batch = (0..1_000).map(|n| own(&format!("order {}", thousand * 1_000 + n), n)).collect();
        world.queue.enqueue(batch).await.unwrap();
        let leased = world.lease(1_000).await.deliveries;
        let settlements: Vec<_> = leased
            .into_iter()
            .map(|delivery| queue_core::Settlement { lease: delivery.lease, action: crate::done() })
            .collect();
        world.queue.settle(&settlements).await.unwrap();
    }
    pass(350).await;
    let mut steps = 0;
    while world.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {
        steps += 1;
        assert!(steps <= 12, "each step handles a thousand messages");
    }
    assert_eq!(world.redis.command("EXISTS drover:{q}:taken"), ":0");
}

#[tokio::test]
async fn erasing_frees_an_own_id_whose_message_is_no_longer_kept() {
    let world = World::with_settings(r#"{"retention":{"completed":{"count":0}}}"#);
    let posted = world.post(own("a", 1)).await.id;
    world.complete(&world.lease_one().await).await;
    assert!(is_taken(&world, "a").await);
    assert_eq!(world.queue.erase(&"a".parse().unwrap()).await.unwrap(), Changed::Done);
    assert_eq!(world.queue.erase(&posted).await.unwrap(), Changed::Unknown, "the message is erased already");
    assert!(!is_taken(&world, "a").await);
}
