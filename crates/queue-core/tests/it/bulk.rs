//! Tests of purges and retries of many messages.

use drover_tests::eventually;
use queue_core::{Action, ListFilter, Message, NewMessage, Queue, State};
use serde_json::value::to_raw_value;

use crate::{
    TestQueue, completion, failure, message_with_delay, message_with_priority, numbered_message, numbers, script_calls,
};

async fn post_thousands(fixture: &TestQueue, thousands: u64, message: impl Fn(u64) -> NewMessage) {
    for thousand in 0..thousands {
        let batch = (0..1_000).map(|n| message(thousand * 1_000 + n)).collect();
        fixture.queue.enqueue(batch).await.unwrap();
    }
}

async fn settle_all(fixture: &TestQueue, action: &Action) {
    loop {
        let deliveries = fixture.lease(1_000).await.deliveries;
        if deliveries.is_empty() {
            return;
        }
        let settlements: Vec<_> = deliveries
            .into_iter()
            .map(|delivery| queue_core::Settlement { lease: delivery.lease, action: action.clone() })
            .collect();
        fixture.queue.settle(&settlements).await.unwrap();
    }
}

#[tokio::test]
async fn dead_letters_are_listed_retried_and_purged_in_steps_between_other_calls() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1,"retention":{"completed":{"count":100000}}}"#);
    post_thousands(&fixture, 30, numbered_message).await;
    settle_all(&fixture, &Action::Fail(failure())).await;
    assert_eq!(fixture.queue.retry_failed().await.unwrap(), 30_000);
    // Redis serves other clients between two calls, so each call must do a bounded amount of work.
    assert!(script_calls(&fixture, "retry") >= 30);
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!((status.counts.failed, status.counts.waiting), (0, 30_000));
    assert_eq!(numbers(&fixture.lease(3).await).len(), 3);
    settle_all(&fixture, &completion()).await;
    fixture.assert_clean().await;
    assert_eq!(fixture.queue.purge(State::Completed).await.unwrap(), 29_997);
    assert!(script_calls(&fixture, "purge") >= 30);
    assert_eq!(fixture.redis.command("HLEN drover:{q}:messages"), ":3", "active messages are kept");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn purge_removes_the_messages_of_one_state_only() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    for n in 0..20 {
        fixture.post(numbered_message(n)).await;
        fixture.post(message_with_priority(n, if n % 2 == 0 { -1 } else { 1 })).await;
        fixture.post(message_with_delay(n, 60_000)).await;
    }
    let cancelled_messages = fixture.queue.list(State::Waiting, 3, None).await.unwrap().messages;
    for message in &cancelled_messages {
        fixture.queue.cancel(&message.id).await.unwrap();
    }
    let lease_reply = fixture.lease(5).await;
    fixture.complete(&lease_reply.deliveries[0]).await;
    fixture.settle(&lease_reply.deliveries[1], Action::Fail(failure())).await;
    let current_counts = async || fixture.queue.status().await.unwrap().unwrap().counts;
    assert_eq!(current_counts().await.of(State::Waiting), 32);
    assert_eq!(fixture.queue.purge(State::Waiting).await.unwrap(), 32);
    assert_eq!(
        (current_counts().await.waiting, current_counts().await.delayed, current_counts().await.failed),
        (0, 20, 4)
    );
    fixture.assert_clean().await;
    assert_eq!(fixture.queue.purge(State::Delayed).await.unwrap(), 20);
    assert_eq!(fixture.queue.purge(State::Failed).await.unwrap(), 4);
    assert_eq!(fixture.queue.purge(State::Completed).await.unwrap(), 1);
    assert_eq!(fixture.queue.purge(State::Active).await.unwrap(), 0, "active messages are kept");
    assert_eq!(current_counts().await.active, 3);
    fixture.assert_clean().await;
    for key in ["options", "outcomes", "removed", "aliases"] {
        assert_eq!(
            fixture.redis.command(&format!("EXISTS drover:{{q}}:{key}")),
            format!(":{}", u8::from(key == "options"))
        );
    }
}

#[tokio::test]
async fn deleted_queue_leaves_nothing_and_can_be_created_again() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"7s"}"#);
    post_thousands(&fixture, 50, numbered_message).await;
    let lease_reply = fixture.lease(1).await;
    fixture.queue.signal(&"k".parse().unwrap(), &queue_core::Signal::default()).await.unwrap();
    assert!(fixture.queue.delete().await.unwrap());
    // A background thread of Redis frees the memory of the deleted queue, so no client waits until the memory is free.
    eventually("Redis has freed the queue in the background", || {
        let memory_info = fixture.redis.command("INFO memory");
        let freed_objects = memory_info.lines().find_map(|line| line.trim().strip_prefix("lazyfreed_objects:"));
        (freed_objects.unwrap() != "0").then_some(())
    });
    assert_eq!(fixture.redis.command("DBSIZE"), ":0");
    assert!(!fixture.queue.delete().await.unwrap());
    assert_eq!(fixture.complete(&lease_reply.deliveries[0]).await, None);
    assert!(fixture.queue.status().await.unwrap().is_none());
    let posted_message = fixture.post(numbered_message(1)).await;
    assert!(posted_message.id.as_str() > lease_reply.deliveries[0].message.id.as_str());
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!(
        (status.totals.enqueued, status.settings.visibility_timeout.get()),
        (1, 7_000),
        "the queue is declared again"
    );
}

async fn list_all(fixture: &TestQueue, state: State, page: usize) -> Vec<u64> {
    let mut listed_numbers = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let list_page = fixture.queue.list(state, page, cursor.as_deref()).await.unwrap();
        assert!(list_page.messages.len() <= page);
        listed_numbers.extend(list_page.messages.iter().map(|message| message.data.get().parse::<u64>().unwrap()));
        match list_page.next {
            Some(next) => cursor = Some(next),
            None => return listed_numbers,
        }
    }
}

#[tokio::test]
async fn list_returns_every_message_of_a_state_once_and_in_order() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    for n in 0..25 {
        fixture.post(message_with_priority(n, [0, -1, 1][usize::try_from(n % 3).unwrap()])).await;
    }
    let numbers_in_order: Vec<u64> =
        [1, 0, 2].iter().flat_map(|rest| (0..25).filter(move |n| n % 3 == *rest)).collect();
    for page in [1, 4, 25, 100] {
        assert_eq!(list_all(&fixture, State::Waiting, page).await, numbers_in_order);
    }
    let lease_reply = fixture.lease(25).await;
    let mut numbers_as_posted: Vec<u64> = (0..25).collect();
    assert_eq!(list_all(&fixture, State::Active, 7).await, numbers_as_posted);
    for (n, delivery) in lease_reply.deliveries.iter().enumerate() {
        let action = if n % 2 == 0 { completion() } else { Action::Fail(failure()) };
        fixture.settle(delivery, action).await;
    }
    let newest_first = |rest: usize| -> Vec<u64> {
        numbers_in_order.iter().enumerate().filter(|(n, _)| n % 2 == rest).map(|(_, data)| *data).rev().collect()
    };
    let erased_message = fixture.queue.list(State::Completed, 1, None).await.unwrap().messages.remove(0);
    assert_eq!(list_all(&fixture, State::Completed, 3).await, newest_first(0));
    fixture.queue.erase(&erased_message.id).await.unwrap();
    assert_eq!(list_all(&fixture, State::Completed, 3).await, newest_first(0)[1..]);
    let mut failed_numbers = list_all(&fixture, State::Failed, 3).await;
    failed_numbers.sort_unstable();
    let mut expected_numbers = newest_first(1);
    expected_numbers.sort_unstable();
    assert_eq!(failed_numbers, expected_numbers);
    for n in 0..25 {
        fixture.post(message_with_delay(n, 60_000)).await;
        fixture.post(NewMessage { hold: Some("k".parse().unwrap()), ..numbered_message(n) }).await;
    }
    for page in [1, 10, 25] {
        assert_eq!(list_all(&fixture, State::Delayed, page).await, numbers_as_posted);
        assert_eq!(list_all(&fixture, State::Held, page).await, numbers_as_posted);
    }
    numbers_as_posted.clear();
    assert_eq!(list_all(&fixture, State::Waiting, 5).await, numbers_as_posted);
}

#[tokio::test]
async fn list_continues_after_the_message_of_its_cursor_was_removed() {
    let fixture = TestQueue::new();
    let deliver_at = Some(queue_core::Timestamp::from_millis(4_000_000_000_000));
    fixture.queue.enqueue((0..500).map(|n| NewMessage { deliver_at, ..numbered_message(n) }).collect()).await.unwrap();
    let first_page = fixture.queue.list(State::Delayed, 100, None).await.unwrap();
    for message in &first_page.messages[90..] {
        fixture.queue.erase(&message.id).await.unwrap();
    }
    let second_page = fixture.queue.list(State::Delayed, 100, first_page.next.as_deref()).await.unwrap();
    let second_page_numbers: Vec<u64> =
        second_page.messages.iter().map(|message| message.data.get().parse().unwrap()).collect();
    assert_eq!(second_page_numbers, (100..200).collect::<Vec<_>>());
}

fn message_with_name(data: u64, name: &str) -> NewMessage {
    NewMessage { name: Some(name.parse().unwrap()), ..numbered_message(data) }
}

/// Lists the messages with one name, page by page, and returns the numbers of the messages on each page.
async fn pages_of_name(fixture: &TestQueue, state: State, name: &str) -> Vec<Vec<u64>> {
    let filter = ListFilter { name: Some(name.parse().unwrap()), ..ListFilter::default() };
    let (mut cursor, mut pages) = (None, Vec::new());
    loop {
        let page = fixture.queue.list_page(state, &filter, 10, Queue::MAX_BYTES, cursor.as_deref()).await;
        let page = page.unwrap();
        assert!(page.bytes <= Queue::MAX_BYTES);
        let number = |message: &Message| message.data.get().trim_matches('"').trim().parse().unwrap();
        pages.push(page.messages.iter().map(number).collect());
        cursor = page.next;
        if cursor.is_none() {
            return pages;
        }
    }
}

#[tokio::test]
async fn list_of_a_name_scans_a_thousand_messages_per_call_and_skips_none() {
    let fixture = TestQueue::new();
    let message = |n: u64| match n {
        0 | 2_200 => message_with_name(n, "rare"),
        _ if n.is_multiple_of(2) => message_with_name(n, "rare too"),
        _ => numbered_message(n),
    };
    let all_numbers: Vec<u64> = (0..2_300).collect();
    for chunk in all_numbers.chunks(1_000) {
        fixture.queue.enqueue(chunk.iter().map(|n| message(*n)).collect()).await.unwrap();
    }
    assert_eq!(pages_of_name(&fixture, State::Waiting, "rare").await, [vec![0], vec![], vec![2_200]]);
    assert_eq!(pages_of_name(&fixture, State::Delayed, "rare").await, [[0_u64; 0]]);
    // A page also counts entries of removed messages that are still in the waiting list.
    let page = fixture.queue.list(State::Waiting, 1_000, None).await.unwrap();
    for message in &page.messages[..900] {
        fixture.queue.cancel(&message.id).await.unwrap();
    }
    assert_eq!(pages_of_name(&fixture, State::Waiting, "rare").await, [vec![], vec![], vec![2_200]]);
    assert_eq!(pages_of_name(&fixture, State::Failed, "rare").await, [[0]]);
}

#[tokio::test]
async fn list_of_a_name_scans_four_mebibytes_per_call() {
    let fixture = TestQueue::new();
    let large_message = |n: u64, name: &str| NewMessage {
        data: to_raw_value(&format!("{n}{}", " ".repeat(1_000_000))).unwrap(),
        ..message_with_name(n, name)
    };
    for n in 0..9 {
        fixture.post(large_message(n, if n == 8 { "rare" } else { "other" })).await;
    }
    assert_eq!(pages_of_name(&fixture, State::Waiting, "rare").await, [vec![], vec![], vec![8]]);
}

#[tokio::test]
async fn list_of_a_hold_key_has_its_messages_in_the_order_posted() {
    let fixture = TestQueue::new();
    for n in 0..30 {
        let key = ["a", "a2", "a b"][usize::try_from(n % 3).unwrap()];
        let delay = (n % 2 == 0).then(|| queue_core::Millis::from_secs(60).try_into().unwrap());
        fixture.post(NewMessage { hold: Some(key.parse().unwrap()), delay, ..numbered_message(n) }).await;
    }
    let page_of = async |state, key: &str, cursor: Option<&str>| {
        let filter = ListFilter { hold: Some(key.parse().unwrap()), ..ListFilter::default() };
        fixture.queue.list_page(state, &filter, 4, Queue::MAX_BYTES, cursor).await
    };
    let numbers = |messages: &[queue_core::Message]| -> Vec<u64> {
        messages.iter().map(|message| message.data.get().parse().unwrap()).collect()
    };
    let first_page = page_of(State::Held, "a", None).await.unwrap();
    let second_page = page_of(State::Held, "a", first_page.next.as_deref()).await.unwrap();
    let last_page = page_of(State::Held, "a", second_page.next.as_deref()).await.unwrap();
    assert_eq!(
        [&first_page, &second_page, &last_page].map(|page| numbers(&page.messages)),
        [vec![0, 3, 6, 9], vec![12, 15, 18, 21], vec![24, 27]]
    );
    assert!(last_page.next.is_none());
    assert!(matches!(
        page_of(State::Held, "a2", first_page.next.as_deref()).await,
        Err(queue_core::Error::InvalidCursor)
    ));
    assert!(page_of(State::Waiting, "a", None).await.unwrap().messages.is_empty());
}
