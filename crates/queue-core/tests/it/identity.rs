//! Idempotency keys and own ids: repeated posts store nothing.

use std::sync::Arc;

use queue_core::{Action, Changed, Enqueued, Error, NewMessage};

use crate::{TestQueue, failure, numbered_message, numbers, wait_millis};

#[tokio::test]
async fn repeated_request_gets_the_same_messages_and_a_different_request_with_its_key_is_refused() {
    let fixture = TestQueue::new();
    let own_id_message = NewMessage { id: Some("own".parse().unwrap()), ..numbered_message(1) };
    fixture.post(own_id_message.clone()).await;
    let batch = || vec![numbered_message(0), own_id_message.clone(), numbered_message(2), numbered_message(3)];
    let first_outcomes = fixture.queue.enqueue_once(batch(), &"k".parse().unwrap(), "abc").await.unwrap();
    assert!(matches!(
        first_outcomes[..],
        [Enqueued::Created(_), Enqueued::Duplicate(..), Enqueued::Created(_), Enqueued::Created(_)]
    ));
    let repeated_outcomes = fixture.queue.enqueue_once(batch(), &"k".parse().unwrap(), "abc").await.unwrap();
    assert!(repeated_outcomes.iter().all(|enqueued| matches!(enqueued, Enqueued::Duplicate(..))));
    let ids = |all: &[Enqueued]| all.iter().map(Enqueued::id).cloned().collect::<Vec<_>>();
    assert_eq!(ids(&first_outcomes), ids(&repeated_outcomes));
    let reuse_result = fixture.queue.enqueue_once(vec![numbered_message(9)], &"k".parse().unwrap(), "abd").await;
    assert!(matches!(reuse_result, Err(Error::KeyReused)));
    fixture.queue.enqueue_once(vec![numbered_message(4)], &"l".parse().unwrap(), "abc").await.unwrap();
    assert_eq!(numbers(&fixture.lease(10).await), [1, 0, 2, 3, 4]);
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.enqueued, 5);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn idempotency_key_is_forgotten_after_its_window_and_leaves_nothing() {
    let fixture = TestQueue::with_settings(r#"{"idempotency_window":"1s"}"#);
    fixture.queue.enqueue_once(vec![numbered_message(0)], &"k".parse().unwrap(), "a").await.unwrap();
    wait_millis(1_010).await;
    let repeated_outcomes =
        fixture.queue.enqueue_once(vec![numbered_message(1)], &"k".parse().unwrap(), "b").await.unwrap();
    assert!(matches!(repeated_outcomes[..], [Enqueued::Created(_)]));
    wait_millis(1_010).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:dedup drover:{q}:dedup_until"), ":0");
}

#[tokio::test]
async fn repeated_post_of_a_forgotten_message_stores_nothing() {
    let fixture = TestQueue::with_settings(r#"{"retention":{"completed":{"count":0}}}"#);
    let first_outcomes =
        fixture.queue.enqueue_once(vec![numbered_message(0)], &"k".parse().unwrap(), "a").await.unwrap();
    fixture.complete(&fixture.lease_one().await).await;
    let repeated_outcomes =
        fixture.queue.enqueue_once(vec![numbered_message(0)], &"k".parse().unwrap(), "a").await.unwrap();
    assert!(
        matches!(&repeated_outcomes[..], [Enqueued::Forgotten(id)] if id.as_str() == first_outcomes[0].id().as_str())
    );
    assert!(fixture.lease(1).await.deliveries.is_empty());
}

#[tokio::test]
async fn concurrent_posts_with_one_idempotency_key_or_own_id_store_one_message() {
    let fixture = Arc::new(TestQueue::new());
    let posts = (0..40).map(|n| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move {
            if n % 2 == 0 {
                fixture.queue.enqueue_once(vec![numbered_message(1)], &"key".parse().unwrap(), "same").await.unwrap()
            } else {
                let own_id_message = NewMessage { id: Some("own".parse().unwrap()), ..numbered_message(2) };
                fixture.queue.enqueue(vec![own_id_message.clone(), own_id_message]).await.unwrap()
            }
        })
    });
    let mut created_count = 0;
    for post in posts.collect::<Vec<_>>() {
        let enqueue_outcomes = post.await.unwrap();
        created_count +=
            enqueue_outcomes.iter().filter(|enqueue_outcomes| matches!(enqueue_outcomes, Enqueued::Created(_))).count();
    }
    assert_eq!(created_count, 2);
    assert_eq!(fixture.lease(10).await.deliveries.len(), 2);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn full_queue_stores_nothing_until_a_message_has_finished() {
    let fixture = TestQueue::with_settings(r#"{"max_length":5}"#);
    fixture.post_numbers(0..2).await;
    fixture.post(crate::message_with_delay(2, 60_000)).await;
    fixture.post(NewMessage { hold: Some("k".parse().unwrap()), ..numbered_message(3) }).await;
    let delivery = fixture.lease_one().await;
    let urgent_message = fixture.post(crate::message_with_priority(4, -1)).await;
    let full_queue_result = fixture.queue.enqueue(vec![numbered_message(5), numbered_message(6)]).await;
    assert!(matches!(full_queue_result, Err(Error::QueueFull(5))), "a message counts in any state and of any priority");
    fixture.queue.erase(&urgent_message.id).await.unwrap();
    let refused_batch = fixture.queue.enqueue(vec![numbered_message(4), numbered_message(5)]).await;
    assert!(matches!(refused_batch, Err(Error::QueueFull(5))));
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.enqueued, 5, "neither message is stored");
    let own_id_message = NewMessage { id: Some("own".parse().unwrap()), ..numbered_message(4) };
    fixture.post(own_id_message.clone()).await;
    assert!(matches!(fixture.queue.enqueue(vec![numbered_message(6)]).await, Err(Error::QueueFull(5))));
    let repeated_outcomes = fixture.queue.enqueue(vec![own_id_message]).await.unwrap();
    assert!(matches!(repeated_outcomes[..], [Enqueued::Duplicate(..)]), "a duplicate needs no room");
    let keyed_result = fixture.queue.enqueue_once(vec![numbered_message(6)], &"k".parse().unwrap(), "a").await;
    assert!(matches!(keyed_result, Err(Error::QueueFull(5))));
    fixture.complete(&delivery).await;
    let keyed_outcomes =
        fixture.queue.enqueue_once(vec![numbered_message(6)], &"k".parse().unwrap(), "a").await.unwrap();
    assert!(matches!(keyed_outcomes[..], [Enqueued::Created(_)]), "a refusal is not remembered");
    assert_eq!(fixture.queue.cancel(keyed_outcomes[0].id()).await.unwrap(), Changed::Done);
    fixture.post(numbered_message(7)).await;
    fixture.assert_clean().await;
}

fn message_with_own_id(id: &str, data: u64) -> NewMessage {
    NewMessage { id: Some(id.parse().unwrap()), ..numbered_message(data) }
}

async fn is_taken(fixture: &TestQueue, id: &str) -> bool {
    match fixture.queue.enqueue(vec![message_with_own_id(id, 9)]).await.unwrap().remove(0) {
        Enqueued::Created(_) => false,
        Enqueued::Forgotten(own) => own.as_str() == id,
        other @ Enqueued::Duplicate(..) => panic!("the message is still kept: {other:?}"),
    }
}

#[tokio::test]
async fn an_own_id_stays_taken_for_its_window_after_its_message_is_forgotten() {
    // With the retention `count` 0, messages are forgotten as soon as they finish. With the retention `age` 1, messages
    // are forgotten 1 ms after they finished.
    for keep in [r#"{"count":0}"#, r#"{"age":1,"min_age":0}"#] {
        let settings =
            format!(r#"{{"id_window":2000,"max_attempts":1,"retention":{{"completed":{keep},"failed":{keep}}}}}"#);
        let fixture = TestQueue::with_settings(&settings);
        fixture
            .queue
            .enqueue(vec![message_with_own_id("completed", 1), message_with_own_id("failed", 2), numbered_message(3)])
            .await
            .unwrap();
        let deliveries = fixture.lease(3).await.deliveries;
        fixture.complete(&deliveries[0]).await;
        fixture.settle(&deliveries[1], Action::Fail(failure())).await;
        fixture.complete(&deliveries[2]).await;
        wait_millis(5).await;
        fixture.queue.maintain().await.unwrap();
        assert_eq!(
            fixture.redis.command("EXISTS drover:{q}:messages drover:{q}:aliases"),
            ":0",
            "the messages are forgotten"
        );
        for id in ["completed", "failed"] {
            assert!(is_taken(&fixture, id).await, "{id}");
        }
        let batch = vec![numbered_message(4), message_with_own_id("completed", 5), numbered_message(6)];
        let enqueue_outcomes = fixture.queue.enqueue(batch).await.unwrap();
        assert!(matches!(enqueue_outcomes[..], [Enqueued::Created(_), Enqueued::Forgotten(_), Enqueued::Created(_)]));
        wait_millis(2_050).await;
        for id in ["completed", "failed"] {
            assert!(!is_taken(&fixture, id).await, "{id}: the window of the own id is over");
        }
        fixture.queue.purge(queue_core::State::Waiting).await.unwrap();
        fixture.queue.maintain().await.unwrap();
        assert_eq!(fixture.redis.command("EXISTS drover:{q}:taken"), ":0", "no own id is left");
        fixture.assert_clean().await;
    }
}

#[tokio::test]
async fn without_a_window_an_own_id_is_free_when_its_message_is_forgotten() {
    let fixture = TestQueue::with_settings(r#"{"id_window":0,"retention":{"completed":{"count":0}}}"#);
    fixture.post(message_with_own_id("a", 1)).await;
    fixture.complete(&fixture.lease_one().await).await;
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:taken"), ":0");
    assert!(!is_taken(&fixture, "a").await);
}

#[tokio::test]
async fn erasing_and_purging_free_own_ids_at_once() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    for state in ["completed", "failed", "waiting", "delayed"] {
        let message = NewMessage {
            delay: (state == "delayed").then(|| queue_core::Millis::from_secs(60).try_into().unwrap()),
            ..message_with_own_id("a", 1)
        };
        let erased_id = fixture.post(message.clone()).await.id;
        let finish_messages = async || {
            for delivery in fixture.lease(1).await.deliveries {
                let action = if state == "failed" { Action::Fail(failure()) } else { crate::completion() };
                fixture.settle(&delivery, action).await;
            }
        };
        if state != "waiting" {
            finish_messages().await;
        }
        assert_eq!(fixture.queue.erase(&erased_id).await.unwrap(), Changed::Done, "{state}");
        fixture.post(message).await;
        if state != "waiting" {
            finish_messages().await;
        }
        assert_eq!(fixture.queue.purge(state.parse().unwrap()).await.unwrap(), 1, "{state}");
        assert!(!is_taken(&fixture, "a").await, "{state}");
        fixture.queue.purge(queue_core::State::Waiting).await.unwrap();
    }
    fixture.assert_clean().await;
}

#[tokio::test]
async fn own_ids_of_ten_thousand_messages_are_swept_in_steps() {
    let fixture = TestQueue::with_settings(r#"{"id_window":300,"retention":{"completed":{"count":0}}}"#);
    for thousand in 0..10 {
        let batch = (0..1_000).map(|n| message_with_own_id(&format!("order {}", thousand * 1_000 + n), n)).collect();
        fixture.queue.enqueue(batch).await.unwrap();
        let deliveries_now = fixture.lease(1_000).await.deliveries;
        let settlements: Vec<_> = deliveries_now
            .into_iter()
            .map(|delivery| queue_core::Settlement { lease: delivery.lease, action: crate::completion() })
            .collect();
        fixture.queue.settle(&settlements).await.unwrap();
    }
    wait_millis(350).await;
    let mut steps = 0;
    while fixture.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {
        steps += 1;
        assert!(steps <= 12, "each step handles a thousand messages");
    }
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:taken"), ":0");
}

#[tokio::test]
async fn erasing_frees_an_own_id_whose_message_is_no_longer_kept() {
    let fixture = TestQueue::with_settings(r#"{"retention":{"completed":{"count":0}}}"#);
    let posted_id = fixture.post(message_with_own_id("a", 1)).await.id;
    fixture.complete(&fixture.lease_one().await).await;
    assert!(is_taken(&fixture, "a").await);
    assert_eq!(fixture.queue.erase(&"a".parse().unwrap()).await.unwrap(), Changed::Done);
    assert_eq!(fixture.queue.erase(&posted_id).await.unwrap(), Changed::Unknown, "the message is erased already");
    assert!(!is_taken(&fixture, "a").await);
}
