//! All parts of an answer count towards its limit of 4 MiB: data, errors, progress, results and signals.

use queue_core::{Action, Failure, Message, NewMessage, Queue, Signal, State};
use serde_json::value::{RawValue, to_raw_value};

use crate::{TestQueue, numbered_message, script_calls};

/// The maximum number of bytes of one message in an answer that do not count towards the answer's limit of 4 MiB, such
/// as names of fields.
const UNCOUNTED_BYTES_PER_MESSAGE: usize = 1_024;

fn bytes_of(messages: &[Message]) -> usize {
    messages.iter().map(|message| serde_json::to_vec(message).unwrap().len()).sum()
}

/// Reads all messages of a state, page by page, and returns their number.
async fn list_all(fixture: &TestQueue, state: State) -> usize {
    let (mut count, mut cursor) = (0, None);
    loop {
        let page = fixture.queue.list(state, 1_000, cursor.as_deref()).await.unwrap();
        let max_bytes = Queue::MAX_BYTES + page.messages.len() * UNCOUNTED_BYTES_PER_MESSAGE;
        assert!(bytes_of(&page.messages) <= max_bytes, "{state:?}: a page has {} bytes", bytes_of(&page.messages));
        assert!(!page.messages.is_empty(), "{state:?}: each page has at least one message");
        count += page.messages.len();
        cursor = page.next;
        if cursor.is_none() {
            return count;
        }
    }
}

/// A failure whose text takes six bytes of JSON for each character.
fn failure_with_control_characters() -> Failure {
    Failure::new("x", "\u{1}".repeat(8_000))
}

#[tokio::test]
async fn page_of_large_messages_ends_within_the_limit_in_every_state() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    let large_message = || NewMessage::new(to_raw_value(&"x".repeat(1_000_000)).unwrap());
    let hold = || NewMessage { hold: Some("k".parse().unwrap()), ..large_message() };
    let delayed_message = || NewMessage { delay: crate::message_with_delay(0, 3_600_000).delay, ..large_message() };
    let prioritized_message = || NewMessage { priority: 7.try_into().unwrap(), ..large_message() };
    for _ in 0..9 {
        for message in [hold(), delayed_message(), large_message(), prioritized_message()] {
            fixture.queue.enqueue(vec![message]).await.unwrap();
        }
    }
    for (state, count) in [(State::Held, 9), (State::Delayed, 9), (State::Waiting, 18)] {
        assert_eq!(list_all(&fixture, state).await, count);
    }
    let mut deliveries = Vec::new();
    while deliveries.len() < 18 {
        deliveries.extend(fixture.lease(1_000).await.deliveries);
    }
    assert_eq!(list_all(&fixture, State::Active).await, 18);
    for (n, delivery) in deliveries.iter().enumerate() {
        let action = if n % 2 == 0 { crate::completion() } else { Action::Fail(failure_with_control_characters()) };
        fixture.settle(delivery, action).await;
    }
    assert_eq!(list_all(&fixture, State::Completed).await, 9);
    assert_eq!(list_all(&fixture, State::Failed).await, 9);
}

#[tokio::test]
async fn progress_results_and_signals_count_toward_the_answer_limit() {
    let fixture = TestQueue::new();
    let held_message = |n| NewMessage { hold: Some("k".parse().unwrap()), ..numbered_message(n) };
    fixture.queue.enqueue((0..400).map(held_message).collect()).await.unwrap();
    let signal_data = RawValue::from_string(format!("\"{}\"", "x".repeat(4_000))).unwrap();
    fixture
        .queue
        .signal(&"k".parse().unwrap(), &Signal { data: Some(signal_data), ..Signal::default() })
        .await
        .unwrap();
    assert_eq!(list_all(&fixture, State::Waiting).await, 400);
    let large_text = to_raw_value(&"x".repeat(60_000)).unwrap();
    let deliveries = fixture.lease(1_000).await.deliveries;
    assert_eq!(deliveries.len(), 400);
    for delivery in &deliveries {
        fixture.queue.report_progress(&delivery.lease, &large_text).await.unwrap();
    }
    assert_eq!(list_all(&fixture, State::Active).await, 400);
    for delivery in &deliveries {
        fixture.settle(delivery, Action::Complete(large_text.clone())).await;
    }
    assert_eq!(list_all(&fixture, State::Completed).await, 400);
}

#[tokio::test]
async fn errors_are_truncated_after_escaping_and_calls_that_read_errors_stay_short() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":2,"backoff":{"type":"fixed","delay":1,"jitter":0}}"#);
    fixture.post_numbers(0..1_000).await;
    let fail_all_messages = async || {
        let mut failed_count = 0;
        while failed_count < 1_000 {
            let lease_reply = fixture.lease(1_000).await;
            let messages: Vec<Message> =
                lease_reply.deliveries.iter().map(|delivery| delivery.message.clone()).collect();
            assert!(
                bytes_of(&messages) <= Queue::MAX_BYTES + messages.len() * UNCOUNTED_BYTES_PER_MESSAGE,
                "the answer of a lease call is within the limit"
            );
            failed_count += lease_reply.deliveries.len();
            let settlements: Vec<_> = lease_reply
                .deliveries
                .into_iter()
                .map(|delivery| queue_core::Settlement {
                    lease: delivery.lease,
                    action: Action::Fail(failure_with_control_characters()),
                })
                .collect();
            fixture.queue.settle(&settlements).await.unwrap();
        }
    };
    fail_all_messages().await;
    fail_all_messages().await;
    let page = fixture.queue.list(State::Failed, 1, None).await.unwrap();
    let error = page.messages[0].error.as_ref().unwrap();
    assert!(serde_json::to_vec(&error.message).unwrap().len() <= 8 * 1_024);
    assert!(error.message.len() > 1_000, "as much of the text as fits is kept");
    assert_eq!(list_all(&fixture, State::Failed).await, 1_000);
    assert_eq!(fixture.queue.retry_failed().await.unwrap(), 1_000);
    assert!(script_calls(&fixture, "retry") >= 5, "each call reads the errors of a few messages");
    assert_eq!(list_all(&fixture, State::Waiting).await, 1_000);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn forgetting_messages_with_own_ids_reads_no_results() {
    let time_in_scripts = async |own_ids: bool| {
        let fixture = TestQueue::new();
        for hundred in 0..12 {
            let message = |n: u64| {
                let id = format!("order {hundred} {n}").parse().unwrap();
                NewMessage { id: own_ids.then_some(id), ..numbered_message(n) }
            };
            fixture.queue.enqueue((0..100).map(message).collect()).await.unwrap();
            for delivery in fixture.lease(100).await.deliveries {
                fixture.settle(&delivery, Action::Complete(to_raw_value(&"x".repeat(60_000)).unwrap())).await;
            }
        }
        let keep_no_completed = serde_json::json!({"retention": {"completed": {"count": 0, "min_age": 0}}});
        fixture.queue.configure(&keep_no_completed).await.unwrap();
        fixture.redis.command("CONFIG RESETSTAT");
        while fixture.queue.maintain().await.unwrap().is_some_and(|pause| pause.is_zero()) {}
        assert_eq!(fixture.redis.command("EXISTS drover:{q}:messages"), ":0");
        // The test compares the times (µs) that Redis spent in scripts with own ids and without. Other load of the machine does
        // not change these times much.
        let stats = fixture.redis.command("INFO commandstats");
        let script_stats = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
        script_stats.split("usec=").nth(1).unwrap().split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let (plain, own) = (time_in_scripts(false).await, time_in_scripts(true).await);
    assert!(own < 20 * plain, "{own} µs with own ids, {plain} µs without");
}
