//! Concurrent posts that share calls to Redis: limits, refusals, and failures of a call.

use std::{collections::BTreeSet, time::Instant};

use futures_util::future::join_all;
use queue_core::{Enqueued, Error, NewMessage, State};
use serde_json::value::RawValue;

use crate::{TIME_LIMIT, TestQueue, numbered_message, numbers, script_calls};

async fn post_all(fixture: &TestQueue, messages: impl IntoIterator<Item = NewMessage>) -> Vec<Result<Enqueued, Error>> {
    join_all(messages.into_iter().map(|message| fixture.queue.post(message))).await
}

fn message_with_own_id(data: u64, id: &str) -> NewMessage {
    NewMessage { id: Some(id.parse().unwrap()), ..numbered_message(data) }
}

fn message_of_size(bytes: usize) -> NewMessage {
    NewMessage::new(RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).unwrap())
}

#[tokio::test]
async fn concurrent_posts_share_calls_and_each_receives_its_own_message() {
    let fixture = TestQueue::new();
    let post_results = post_all(&fixture, (0..2_500).map(numbered_message)).await;
    let mut ids = BTreeSet::new();
    for (n, enqueued) in post_results.into_iter().enumerate() {
        let Ok(Enqueued::Created(message)) = enqueued else { panic!("{n} was not stored: {enqueued:?}") };
        assert_eq!(message.data.get(), n.to_string());
        assert_eq!(fixture.read(&message.id).await.data.get(), n.to_string());
        assert!(ids.insert(message.id.to_string()));
    }
    let calls = script_calls(&fixture, "enqueue");
    assert!((3..=5).contains(&calls), "{calls} calls, of at most a thousand each");
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!((status.counts.waiting, status.totals.enqueued), (2_500, 2_500));
    fixture.assert_clean().await;
}

#[tokio::test]
async fn single_post_is_sent_without_a_wait() {
    let fixture = TestQueue::new();
    for n in 0..20 {
        fixture.queue.post(numbered_message(n)).await.unwrap();
    }
    assert_eq!(script_calls(&fixture, "enqueue"), 20);
    assert_eq!(numbers(&fixture.lease(100).await), (0..20).collect::<Vec<_>>(), "sequential posts keep their order");
}

#[tokio::test]
async fn refused_post_does_not_affect_other_posts_of_its_call() {
    let fixture = TestQueue::with_settings(r#"{"max_length":8}"#);
    let messages = [
        numbered_message(0),
        numbered_message(1),
        message_with_own_id(2, "a"),
        numbered_message(3),
        message_of_size(5 << 20),
        message_with_own_id(4, "a"),
        numbered_message(5),
    ];
    let post_results = post_all(&fixture, messages).await;
    let is_created = |n: usize| matches!(post_results[n], Ok(Enqueued::Created(_)));
    assert!([0, 1, 2, 3, 6].into_iter().all(is_created), "{post_results:?}");
    assert!(matches!(post_results[4], Err(Error::TooManyBytes(_))));
    assert!(
        matches!(&post_results[5], Ok(Enqueued::Duplicate(id, State::Waiting)) if id.as_str() == "a"),
        "{:?}",
        post_results[5]
    );
    // The queue has five messages and may have eight, so three of six more messages are stored.
    let post_results = post_all(
        &fixture,
        [
            numbered_message(6),
            numbered_message(7),
            message_with_own_id(8, "a"),
            numbered_message(9),
            numbered_message(10),
            numbered_message(11),
        ],
    )
    .await;
    let (full, rest): (Vec<_>, Vec<_>) = post_results.iter().partition(|one| matches!(one, Err(Error::QueueFull(8))));
    assert_eq!((full.len(), rest.len()), (2, 4), "{post_results:?}");
    assert!(matches!(post_results[2], Ok(Enqueued::Duplicate(..))), "a duplicate needs no room");
    // `enqueue` refuses a whole batch of messages if the queue has no room for the batch.
    let batch = fixture.queue.enqueue(vec![numbered_message(12)]).await;
    assert!(matches!(batch, Err(Error::QueueFull(8))));
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 8);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn large_posts_are_sent_in_calls_of_bounded_size() {
    let fixture = TestQueue::new();
    let post_results = post_all(&fixture, (0..8).map(|_| message_of_size(1_200_000))).await;
    assert!(post_results.iter().all(Result::is_ok));
    assert_eq!(script_calls(&fixture, "enqueue"), 3, "three posts fit into a call");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn disconnected_client_cancels_no_other_post() {
    let fixture = TestQueue::new();
    let _ = fixture.queue.post(numbered_message(0)).await.unwrap();
    fixture.redis.suspend();
    let posts = (1..=50).map(|n| {
        let queue = fixture.queue.clone();
        tokio::spawn(async move { queue.post(numbered_message(n)).await })
    });
    let mut disconnected: Vec<_> = posts.collect();
    // The runtime has one thread, so `yield_now` lets all 50 posts begin: the first two calls to Redis are sent, and the other
    // posts wait.
    tokio::task::yield_now().await;
    let other_posts = disconnected.split_off(3);
    for task in disconnected {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    fixture.redis.resume();
    for other in other_posts {
        assert!(matches!(other.await.unwrap(), Ok(Enqueued::Created(_))));
    }
    fixture.queues.posts_done().await;
    let leased_numbers = numbers(&fixture.lease(100).await);
    assert!((4..=50).all(|n| leased_numbers.contains(&n)), "{leased_numbers:?}");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn failed_call_fails_each_of_its_posts_once_and_in_time() {
    let fixture = TestQueue::new();
    fixture.queue.post(numbered_message(0)).await.unwrap();
    fixture.redis.suspend();
    let start = Instant::now();
    let mut posts = Vec::new();
    for numbers in [1..2, 2..50, 50..300] {
        for n in numbers {
            let queue = fixture.queue.clone();
            posts.push(tokio::spawn(async move { queue.post(numbered_message(n)).await }));
        }
        // The first post starts a call to Redis, and the next 48 posts share a second call to Redis. No more than two calls
        // that store posts may run at a time, so the last 250 of the 299 posts wait.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    for post in posts {
        assert!(matches!(post.await.unwrap(), Err(Error::Unavailable(_))));
    }
    // All posts fail before two time limits of calls have passed. If the 250 waiting posts were sent in a third call, they
    // would fail only after two time limits.
    assert!(start.elapsed() < TIME_LIMIT * 2, "{:?}", start.elapsed());
    fixture.redis.resume();
    fixture.queues.posts_done().await;
    // A post that was sent may be stored or not, but none was sent twice.
    let post_results = post_all(&fixture, (301..=400).map(numbered_message)).await;
    assert!(post_results.iter().all(|one| matches!(one, Ok(Enqueued::Created(_)))), "{post_results:?}");
    let stored_numbers = numbers(&fixture.lease(1_000).await);
    assert_eq!(stored_numbers.iter().collect::<BTreeSet<_>>().len(), stored_numbers.len(), "{stored_numbers:?}");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn post_beyond_the_limit_of_waiting_posts_is_refused_at_once_and_a_later_one_is_stored() {
    let fixture = TestQueue::new();
    fixture.queue.post(numbered_message(0)).await.unwrap();
    fixture.redis.suspend();
    let post_results = post_all(&fixture, (0..70).map(|_| message_of_size(1 << 20))).await;
    let overloaded = post_results.iter().filter(|one| matches!(one, Err(Error::Overloaded))).count();
    let unavailable_count = post_results.iter().filter(|one| matches!(one, Err(Error::Unavailable(_)))).count();
    assert_eq!((overloaded, unavailable_count), (7, 63), "64 MiB may wait, so 63 posts of more than 1 MiB");
    fixture.redis.resume();
    fixture.queues.posts_done().await;
    let post_results = post_all(&fixture, (0..60).map(|_| message_of_size(1 << 20))).await;
    // On a busy machine Redis may be too slow for so many posts; such a failure is not `Overloaded`.
    let overloaded = post_results.iter().filter(|one| matches!(one, Err(Error::Overloaded))).count();
    assert_eq!(overloaded, 0, "no post is refused when no other post waits");
    assert!(post_results.iter().any(Result::is_ok));
    fixture.queues.posts_done().await;
    fixture.assert_clean().await;
}

#[tokio::test]
async fn out_of_memory_refuses_each_post_of_a_call() {
    let fixture = TestQueue::new();
    fixture.queue.post(numbered_message(0)).await.unwrap();
    fixture.redis.command("CONFIG SET maxmemory 1");
    let post_results = post_all(&fixture, (1..=20).map(numbered_message)).await;
    assert!(post_results.iter().all(|one| matches!(one, Err(Error::OutOfMemory))), "{post_results:?}");
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 1);
    fixture.assert_clean().await;
}
