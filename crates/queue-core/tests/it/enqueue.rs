//! Enqueueing: ids, defaults, own ids, and limits of a batch.

use queue_core::{Enqueued, Error, MessageRef, NewMessage, Queue, State, Timestamp};
use serde_json::value::RawValue;

use crate::{TestQueue, message_with_delay, numbered_message, numbers, queue_name};

#[tokio::test]
async fn a_message_reads_back_as_it_was_posted_byte_for_byte() {
    let fixture = TestQueue::new();
    let unusual_json = r#"{ "big":12345678901234567890,"empty":[], "text":"\t\n\u0000 ✅" }"#;
    let mut message = NewMessage::new(RawValue::from_string(unusual_json.into()).unwrap());
    message.name = Some("welcome".parse().unwrap());
    message.headers = serde_json::from_str(r#"{"trace":"a\tb\nc"}"#).unwrap();
    message.priority = "7".parse().unwrap();
    message.max_attempts = Some("9".parse().unwrap());
    let posted_message = fixture.post(message).await;
    let stored_message = fixture.read(&posted_message.id).await;
    assert_eq!(stored_message.data.get(), unusual_json);
    assert_eq!(serde_json::to_value(&stored_message).unwrap(), serde_json::to_value(&posted_message).unwrap());
    assert_eq!((stored_message.state, *stored_message.priority, *stored_message.max_attempts), (State::Waiting, 7, 9));
    assert_eq!(stored_message.headers.get("trace"), Some("a\tb\nc"));
    let delivery = fixture.lease_one().await;
    assert_eq!(delivery.message.data.get(), unusual_json);
    assert_eq!(delivery.message.name, posted_message.name);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn ids_increase_in_the_order_of_posting_even_after_redis_was_emptied() {
    let fixture = TestQueue::new();
    let mut last_id = String::new();
    for round in 0..3 {
        for message in fixture.queue.enqueue((0..1_000).map(numbered_message).collect()).await.unwrap() {
            let id = message.id().to_string();
            assert_eq!(id.len(), 14);
            assert!(id > last_id, "{id} comes after {last_id}");
            last_id = id;
        }
        if round == 1 {
            fixture.redis.command("FLUSHALL");
            // Ids run ahead of the clock by 10 ms for each thousand messages. The test waits for 50 ms, because a real restart of
            // Redis takes longer than the time by which ids run ahead.
            crate::wait_millis(50).await;
        }
    }
    fixture.assert_clean().await;
}

#[tokio::test]
async fn batch_is_stored_in_its_order_and_an_empty_batch_stores_nothing() {
    let fixture = TestQueue::new();
    assert!(fixture.queue.enqueue(Vec::new()).await.unwrap().is_empty());
    fixture.post_numbers(0..1_000).await;
    assert_eq!(numbers(&fixture.lease(1_000).await), (0..1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn own_id_names_its_message_and_is_stored_once() {
    let fixture = TestQueue::new();
    let message_with_own_id = |data| NewMessage { id: Some("order-42".parse().unwrap()), ..numbered_message(data) };
    let first_message = fixture.post(message_with_own_id(1)).await;
    assert_eq!(first_message.id.to_string(), "order-42");
    // The own id `order-42` is posted again: first alone, then in a batch that also contains the own id `order-43`
    // twice.
    let repeated_outcomes = fixture.queue.enqueue(vec![message_with_own_id(2)]).await.unwrap().remove(0);
    assert!(
        matches!(&repeated_outcomes, Enqueued::Duplicate(id, State::Waiting) if *id == first_message.id),
        "{repeated_outcomes:?}"
    );
    let other_message = |data| NewMessage { id: Some("order-43".parse().unwrap()), ..numbered_message(data) };
    let batch = fixture
        .queue
        .enqueue(vec![other_message(3), numbered_message(4), other_message(5), message_with_own_id(6)])
        .await
        .unwrap();
    let duplicates: Vec<bool> = batch.iter().map(|enqueued| matches!(enqueued, Enqueued::Duplicate(..))).collect();
    assert_eq!(duplicates, [false, false, true, true]);
    assert_eq!(batch[2].id(), batch[0].id());
    assert_eq!(fixture.read(&"order-43".parse().unwrap()).await.data.get(), "3");
    assert_eq!(numbers(&fixture.lease(10).await), [1, 3, 4]);
    // An own id is kept while its message is kept, in any state.
    assert!(matches!(fixture.queue.enqueue(vec![message_with_own_id(7)]).await.unwrap()[0], Enqueued::Duplicate(..)));
    fixture.assert_clean().await;
}

#[tokio::test]
async fn deliver_at_in_the_past_means_now_and_deliver_at_in_the_future_delays_the_message() {
    let fixture = TestQueue::new();
    let message_due_at =
        |instant| NewMessage { deliver_at: Some(Timestamp::from_millis(instant)), ..numbered_message(1) };
    let past_message = fixture.post(message_due_at(1_000)).await;
    assert_eq!(
        (past_message.state, past_message.delay.get(), past_message.due_at),
        (State::Waiting, 0, past_message.created_at)
    );
    let later_message = fixture.post(message_due_at(past_message.created_at.as_millis() + 60_000)).await;
    assert_eq!(
        (later_message.state, later_message.due_at.as_millis()),
        (State::Delayed, past_message.created_at.as_millis() + 60_000)
    );
    let undelayed_message = fixture.post(message_with_delay(1, 0)).await;
    assert_eq!((undelayed_message.state, undelayed_message.due_at), (State::Waiting, undelayed_message.created_at));
}

#[tokio::test]
async fn batch_too_large_for_one_call_is_refused_whole() {
    let fixture = TestQueue::new();
    let too_many = (0..=Queue::MAX_MESSAGES as u64).map(numbered_message).collect();
    assert!(matches!(fixture.queue.enqueue(too_many).await, Err(Error::TooManyMessages(_))));
    let large_text = RawValue::from_string(format!("\"{}\"", "x".repeat(3 << 20))).unwrap();
    let too_large = vec![NewMessage::new(large_text.clone()), NewMessage::new(large_text)];
    assert!(matches!(fixture.queue.enqueue(too_large).await, Err(Error::TooManyBytes(_))));
    assert!(fixture.queue.status().await.unwrap().is_none_or(|status| status.totals.enqueued == 0));
}

#[tokio::test]
async fn full_redis_stores_nothing_and_the_queue_can_be_drained() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..10).await;
    fixture.redis.command("CONFIG SET maxmemory 1");
    assert!(matches!(fixture.queue.enqueue(vec![numbered_message(10)]).await, Err(Error::OutOfMemory)));
    // While the memory of Redis is full, messages can still be leased and completed, also by a process that starts now.
    let new_process = crate::connect(&fixture.redis, "{}").queue(&queue_name());
    let mut deliveries = new_process.lease(&fixture.request(4)).await.unwrap().deliveries;
    deliveries.extend(fixture.lease(100).await.deliveries);
    for delivery in deliveries {
        fixture.complete(&delivery).await;
    }
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!((status.counts.completed, status.counts.waiting, status.totals.enqueued), (10, 0, 10));
    fixture.assert_clean().await;
}

#[tokio::test]
async fn status_shows_counts_totals_and_the_age_of_the_oldest_waiting_message() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    assert!(fixture.queue.status().await.unwrap().is_none(), "a queue does not exist before its first message");
    assert!(fixture.queues.names().await.unwrap().is_empty());
    fixture.post_numbers(0..5).await;
    fixture.post(message_with_delay(5, 60_000)).await;
    crate::wait_millis(30).await;
    let lease_reply = fixture.lease(3).await;
    fixture.complete(&lease_reply.deliveries[0]).await;
    fixture.settle(&lease_reply.deliveries[1], queue_core::Action::Fail(crate::failure())).await;
    let status = fixture.queue.status().await.unwrap().unwrap();
    let counts = serde_json::to_value(&status.counts).unwrap();
    let expected_counts = serde_json::json!({"held":0,"delayed":1,"waiting":2,"active":1,"completed":1,"failed":1});
    assert_eq!(counts, expected_counts);
    let totals = serde_json::to_value(&status.totals).unwrap();
    assert_eq!(
        totals,
        serde_json::json!({"enqueued":6,"completed":1,"failed":1,"retried":0,"lapsed":0,"expired":0,"cancelled":0,"scheduled":0})
    );
    assert!(status.oldest_waiting_age.unwrap().get() >= 30);
    assert_eq!(*status.settings.max_attempts, 1);
    assert_eq!(fixture.queues.names().await.unwrap(), [queue_name()]);
}

#[tokio::test]
async fn unknown_id_has_no_message() {
    let fixture = TestQueue::new();
    let ids: Vec<MessageRef> = ["21718923400017", "mine"].map(|id| id.parse().unwrap()).into();
    assert!(fixture.queue.read(&ids).await.unwrap().iter().all(Option::is_none));
}

#[tokio::test]
async fn many_large_messages_are_read_in_calls_of_a_bounded_size() {
    let fixture = TestQueue::new();
    let large_text = RawValue::from_string(format!("\"{}\"", "x".repeat(1 << 20))).unwrap();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(fixture.post(NewMessage::new(large_text.clone())).await.id);
    }
    ids.insert(5, "21718923400017".parse().unwrap());
    let read_messages = fixture.queue.read(&ids).await.unwrap();
    let found_ids: Vec<Option<&MessageRef>> =
        read_messages.iter().map(|message| message.as_ref().map(|message| &message.id)).collect();
    let expected_ids: Vec<Option<&MessageRef>> =
        ids.iter().enumerate().map(|(index, id)| (index != 5).then_some(id)).collect();
    assert_eq!(found_ids, expected_ids);
}
