use std::sync::Arc;

use queue_core::{Changed, Enqueued, Error, Idempotency, NewMessage};

use crate::{World, number, numbers, pass};

fn once(key: &str, fingerprint: &str) -> Idempotency {
    Idempotency { key: key.parse().unwrap(), fingerprint: fingerprint.to_owned() }
}

#[tokio::test]
async fn the_same_request_again_answers_with_the_same_messages_and_another_is_refused() {
    let world = World::new();
    let own = NewMessage { id: Some("own".parse().unwrap()), ..number(1) };
    world.post(own.clone()).await;
    let batch = || vec![number(0), own.clone(), number(2), number(3)];
    let first = world.queue.enqueue_once(batch(), &once("k", "abc")).await.unwrap();
    assert!(matches!(
        first[..],
        [Enqueued::Created(_), Enqueued::Duplicate(..), Enqueued::Created(_), Enqueued::Created(_)]
    ));
    let again = world.queue.enqueue_once(batch(), &once("k", "abc")).await.unwrap();
    assert!(again.iter().all(|enqueued| matches!(enqueued, Enqueued::Duplicate(..))));
    let ids = |all: &[Enqueued]| all.iter().map(Enqueued::id).cloned().collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&again));
    let reused = world.queue.enqueue_once(vec![number(9)], &once("k", "abd")).await;
    assert!(matches!(reused, Err(Error::KeyReused)));
    world.queue.enqueue_once(vec![number(4)], &once("l", "abc")).await.unwrap();
    assert_eq!(numbers(&world.lease(10).await), [1, 0, 2, 3, 4]);
    assert_eq!(world.queue.status().await.unwrap().unwrap().totals.enqueued, 5);
    world.assert_clean().await;
}

#[tokio::test]
async fn a_key_is_forgotten_after_the_window_and_leaves_nothing() {
    let world = World::with_settings(r#"{"idempotency_window":"1s"}"#);
    world.queue.enqueue_once(vec![number(0)], &once("k", "a")).await.unwrap();
    pass(1_010).await;
    let again = world.queue.enqueue_once(vec![number(1)], &once("k", "b")).await.unwrap();
    assert!(matches!(again[..], [Enqueued::Created(_)]));
    pass(1_010).await;
    world.queue.tend().await.unwrap();
    assert_eq!(world.redis.command("EXISTS drover:{q}:dedup drover:{q}:dedup_until"), ":0");
}

#[tokio::test]
async fn what_is_no_longer_kept_is_not_stored_again() {
    let world = World::with_settings(r#"{"retention":{"completed":{"count":0}}}"#);
    let first = world.queue.enqueue_once(vec![number(0)], &once("k", "a")).await.unwrap();
    world.complete(&world.lease_one().await).await;
    let again = world.queue.enqueue_once(vec![number(0)], &once("k", "a")).await.unwrap();
    assert!(matches!(&again[..], [Enqueued::Forgotten(id)] if id.as_str() == first[0].id().as_str()));
    assert!(world.lease(1).await.deliveries.is_empty());
}

#[tokio::test]
async fn many_at_once_with_one_key_or_one_id_store_one_message() {
    let world = Arc::new(World::new());
    let posts = (0..40).map(|n| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            if n % 2 == 0 {
                world.queue.enqueue_once(vec![number(1)], &once("key", "same")).await.unwrap()
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
    assert!(matches!(full, Err(Error::QueueFull(5))), "whatever its state and priority, each counts");
    world.queue.erase(&urgent.id).await.unwrap();
    let two = world.queue.enqueue(vec![number(4), number(5)]).await;
    assert!(matches!(two, Err(Error::QueueFull(5))));
    assert_eq!(world.queue.status().await.unwrap().unwrap().totals.enqueued, 5, "nothing of it");
    let own = NewMessage { id: Some("own".parse().unwrap()), ..number(4) };
    world.post(own.clone()).await;
    assert!(matches!(world.queue.enqueue(vec![number(6)]).await, Err(Error::QueueFull(5))));
    let again = world.queue.enqueue(vec![own]).await.unwrap();
    assert!(matches!(again[..], [Enqueued::Duplicate(..)]), "what stands already needs no room");
    let keyed = world.queue.enqueue_once(vec![number(6)], &once("k", "a")).await;
    assert!(matches!(keyed, Err(Error::QueueFull(5))));
    world.complete(&delivery).await;
    let keyed = world.queue.enqueue_once(vec![number(6)], &once("k", "a")).await.unwrap();
    assert!(matches!(keyed[..], [Enqueued::Created(_)]), "a refusal is not remembered");
    assert_eq!(world.queue.cancel(keyed[0].id()).await.unwrap(), Changed::Done);
    world.post(number(7)).await;
    world.assert_clean().await;
}
