//! Tests of failed attempts, and of the pauses between attempts.

use queue_core::{Action, Changed, Failure, Message, Millis, NewMessage, State};

use crate::{TestQueue, failure, numbered_message, numbers, wait_millis};

#[tokio::test]
async fn failed_message_is_retried_after_its_back_off_until_no_attempt_is_left() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":3,"backoff":{"type":"fixed","delay":1000,"jitter":0}}"#);
    let posted_message = fixture.post(numbered_message(1)).await;
    for attempt in 1..=2 {
        let delivery = fixture.lease_one().await;
        assert_eq!(delivery.message.attempts_made, attempt - 1);
        assert_eq!(fixture.settle(&delivery, Action::Fail(failure())).await, Some(State::Delayed));
        let message = fixture.read(&posted_message.id).await;
        assert_eq!((message.state, message.attempts_made), (State::Delayed, attempt));
        let error = message.error.unwrap();
        assert_eq!((error.code.as_str(), error.message.as_str(), error.attempt), ("boom", "it went wrong", attempt));
        assert_eq!(message.due_at, error.at + Millis::new(1_000));
        assert!(fixture.lease(1).await.deliveries.is_empty(), "the message is not delivered before the pause is over");
        wait_millis(1_010).await;
    }
    let last_delivery = fixture.lease_one().await;
    assert_eq!(fixture.settle(&last_delivery, Action::Fail(failure())).await, Some(State::Failed));
    let message = fixture.read(&posted_message.id).await;
    assert_eq!((message.state, message.attempts_made, message.deliveries), (State::Failed, 3, 3));
    assert_eq!(message.error.unwrap().attempt, 3);
    assert!(message.finished_at.is_some());
    let totals = fixture.queue.status().await.unwrap().unwrap().totals;
    assert_eq!((totals.retried, totals.failed), (2, 1));
    fixture.assert_clean().await;
}

#[tokio::test]
async fn back_off_doubles_up_to_its_maximum() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":9,"backoff":{"delay":20,"max":100,"jitter":0}}"#);
    let posted_message = fixture.post(numbered_message(1)).await;
    for pause in [20, 40, 80, 100, 100] {
        let delivery = fixture.lease_one().await;
        fixture.settle(&delivery, Action::Fail(failure())).await;
        let message = fixture.read(&posted_message.id).await;
        assert_eq!(message.due_at, message.error.unwrap().at + Millis::new(pause));
        wait_millis(pause + 5).await;
    }
}

#[tokio::test]
async fn jitter_shortens_the_back_off_by_at_most_its_fraction() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":"100s","jitter":0.5}}"#);
    fixture.post_numbers(0..200).await;
    let mut pauses = Vec::new();
    for delivery in fixture.lease(200).await.deliveries {
        fixture.settle(&delivery, Action::Fail(failure())).await;
        let message = fixture.read(&delivery.message.id).await;
        pauses.push(message.due_at.since(message.error.unwrap().at).get());
    }
    let (shortest, longest) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*shortest >= 50_000 && *longest <= 100_000, "{shortest} to {longest}");
    assert!(longest - shortest > 25_000, "the pauses differ: {shortest} to {longest}");
}

#[tokio::test]
async fn attempts_and_back_off_of_a_message_override_those_of_its_queue() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":9,"backoff":{"type":"fixed","delay":"1h","jitter":0}}"#);
    let backoff = serde_json::from_str(r#"{"type":"fixed","delay":10,"max":10,"jitter":0}"#).unwrap();
    let message_with_own_backoff =
        NewMessage { max_attempts: Some("2".parse().unwrap()), backoff: Some(backoff), ..numbered_message(1) };
    let posted_message = fixture.post(message_with_own_backoff).await;
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, Action::Fail(failure())).await;
    wait_millis(15).await;
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.settle(&delivery, Action::Fail(failure())).await, Some(State::Failed));
    assert_eq!(*fixture.read(&posted_message.id).await.max_attempts, 2);
}

#[tokio::test]
async fn failure_may_set_the_retry_time_or_forbid_a_retry() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":"1h"}}"#);
    fixture.post_numbers(0..2).await;
    let lease_reply = fixture.lease(2).await;
    let early_retry = Action::FailAndRetryAfter(failure(), Millis::new(30));
    assert_eq!(fixture.settle(&lease_reply.deliveries[0], early_retry).await, Some(State::Delayed));
    let final_failure = Action::FailForGood(failure());
    assert_eq!(fixture.settle(&lease_reply.deliveries[1], final_failure).await, Some(State::Failed));
    wait_millis(40).await;
    assert_eq!(numbers(&fixture.lease(10).await), [0]);
    assert_eq!(fixture.read(&lease_reply.deliveries[1].message.id).await.attempts_made, 1);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn invalid_back_off_and_endless_release_delay_do_not_block_the_queue() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"jitter":-0.0,"delay":10}}"#);
    let posted_message = fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.settle(&delivery, Action::Fail(failure())).await, Some(State::Delayed));
    fixture.redis.command("HSET drover:{q}:meta backoff garbage");
    wait_millis(15).await;
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.settle(&delivery, Action::Fail(failure())).await, Some(State::Delayed));
    assert_eq!(fixture.read(&posted_message.id).await.attempts_made, 2);
    let other_message = fixture.post(numbered_message(2)).await;
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, Action::Release(Some(Millis::new(u64::MAX)))).await;
    assert_eq!(fixture.read(&other_message.id).await.state, State::Delayed);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn too_large_result_fails_and_too_long_error_is_truncated() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..2).await;
    let lease_reply = fixture.lease(2).await;
    let large_text = serde_json::value::to_raw_value(&"x".repeat(queue_core::Queue::MAX_RESULT_BYTES)).unwrap();
    assert_eq!(fixture.settle(&lease_reply.deliveries[0], Action::Complete(large_text)).await, Some(State::Failed));
    let message = fixture.read(&lease_reply.deliveries[0].message.id).await;
    assert_eq!(message.error.unwrap().code, "result_too_large");
    let long_failure = queue_core::Failure::new("long", "\u{0}✅".repeat(100_000));
    assert_eq!(
        fixture.settle(&lease_reply.deliveries[1], Action::FailForGood(long_failure)).await,
        Some(State::Failed)
    );
    let error_text = fixture.read(&lease_reply.deliveries[1].message.id).await.error.unwrap().message;
    assert!(!error_text.is_empty() && error_text.len() <= queue_core::Queue::MAX_RESULT_BYTES / 8);
    fixture.assert_clean().await;
}

/// Leases the message of the queue, and fails the attempt with this error; the message is ready again at once.
async fn fail_with(fixture: &TestQueue, failure: Failure) {
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, Action::FailAndRetryAfter(failure, Millis::new(0))).await;
}

/// The earlier errors of a message, each with its attempt and text.
fn earlier_errors(message: &Message) -> Vec<(u32, &str)> {
    assert!(message.earlier_errors.is_sorted_by_key(|error| error.at));
    message.earlier_errors.iter().map(|error| (error.attempt, error.message.as_str())).collect()
}

#[tokio::test]
async fn last_errors_of_attempts_and_lapses_stay_until_the_message_is_forgotten() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":9,"visibility_timeout":100}"#);
    let id = fixture.post(numbered_message(1)).await.id;
    for error in ["one", "two", "three"] {
        fail_with(&fixture, Failure::new("boom", error)).await;
    }
    fixture.lease_one().await;
    wait_millis(110).await;
    fixture.queue.maintain().await.unwrap();
    let lapsed_message = fixture.read(&id).await;
    assert_eq!(earlier_errors(&lapsed_message), [(1, "one"), (2, "two"), (3, "three")]);
    let error = lapsed_message.error.unwrap();
    assert_eq!((error.code.as_str(), error.attempt), ("lease_lapsed", 3));

    fail_with(&fixture, Failure::new("boom", "four")).await;
    fail_with(&fixture, Failure::new("boom", "five")).await;
    let delivery = fixture.lease_one().await;
    let mut expected = vec![(2, "two"), (3, "three"), (3, "the lease lapsed"), (4, "four")];
    assert_eq!(earlier_errors(&delivery.message), expected, "a consumer gets the errors");
    fixture.settle(&delivery, Action::FailForGood(Failure::new("boom", "six"))).await;
    expected.push((5, "five"));
    let failed_message = fixture.read(&id).await;
    assert_eq!(earlier_errors(&failed_message), expected);
    assert_eq!(failed_message.error.unwrap().message, "six");

    assert_eq!(fixture.queue.retry(&id).await.unwrap(), Changed::Done);
    expected.remove(0);
    assert_eq!(earlier_errors(&fixture.read(&id).await), expected);
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.complete(&delivery).await, Some(State::Completed));
    let completed_message = fixture.read(&id).await;
    expected.push((6, "six"));
    assert_eq!(earlier_errors(&completed_message), expected);
    assert!(completed_message.error.is_none());
    fixture.assert_clean().await;
}

#[tokio::test]
async fn long_earlier_errors_are_shortened_so_that_a_run_stays_small() {
    const LAST_ERROR_BYTES: usize = 8 * 1_024;
    const EARLIER_ERRORS_BYTES: usize = 1_024;
    const OTHER_BYTES: usize = 256;
    for (text, kept) in [("long ", 4), ("ä", 4), ("\"/\\", 2), ("\u{1}", 0), ("\",\"earlier\":[", 3)] {
        let fixture = TestQueue::with_settings(r#"{"max_attempts":99}"#);
        let id = fixture.post(numbered_message(1)).await.id;
        for _ in 0..7 {
            fail_with(&fixture, Failure::new(text.repeat(50), text.repeat(9_000))).await;
        }
        let message = fixture.read(&id).await;
        assert_eq!(message.earlier_errors.len(), kept, "{text:?}");
        for error in &message.earlier_errors {
            let start = error.message.strip_suffix('…').unwrap();
            assert!(start.len() > 140 && text.repeat(9_000).starts_with(start), "{text:?}: {start:?}");
        }
        let bytes: usize =
            fixture.redis.command(&format!("HSTRLEN drover:{{q}}:runs {id}")).trim_start_matches(':').parse().unwrap();
        assert!(bytes <= LAST_ERROR_BYTES + EARLIER_ERRORS_BYTES + OTHER_BYTES, "{text:?}: {bytes} bytes");
        fixture.assert_clean().await;
    }
}
