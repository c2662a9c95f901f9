//! Tests of the plain path: in a queue that uses no rare feature, a call executes few commands, also after a rare feature was
//! used.

use queue_core::{Action, Millis, NewMessage, Signal, State};
use serde_json::{json, value::to_raw_value};

use crate::{TestQueue, failure, message_with_priority, numbered_message};

/// The number of commands that the calls of scripts executed inside Redis.
fn count_commands(fixture: &TestQueue) -> u64 {
    let stats = fixture.redis.command("INFO commandstats");
    let calls = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
    let other_commands =
        ["eval", "info", "quit", "hello", "client", "config", "ping", "script", "subscribe", "psubscribe"];
    calls
        .filter(|(name, _)| !other_commands.iter().any(|other| name.starts_with(other)))
        .map(|(_, figures)| figures.split(',').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Returns the numbers of commands for a post of one message, for its lease, for its settlement, and for a lease call that finds
/// no message.
async fn commands_of_one_message(fixture: &TestQueue) -> [u64; 4] {
    let commands_before = count_commands(fixture);
    fixture.queue.enqueue(vec![numbered_message(1)]).await.unwrap();
    let enqueue_commands = count_commands(fixture);
    let delivery = fixture.lease_one().await;
    let lease_commands = count_commands(fixture);
    fixture.complete(&delivery).await.unwrap();
    let settle_commands = count_commands(fixture);
    assert_eq!(fixture.lease(1).await.deliveries.len(), 0);
    [
        enqueue_commands - commands_before,
        lease_commands - enqueue_commands,
        settle_commands - lease_commands,
        count_commands(fixture) - settle_commands,
    ]
}

/// The maximum numbers of commands that Redis executes for a message of a queue without rare features (the plain path): for a
/// post, its lease, its settlement, and a lease call that finds no message. These maximum numbers of commands include the two
/// commands that set a timer of the idle consumers. The maximum numbers of commands also include the command by which a lease
/// call stores the time once a second.
const MAX_COMMANDS_ON_PLAIN_PATH: [u64; 4] = [8, 14, 18, 13];

async fn assert_few_commands(fixture: &TestQueue, after: &str) {
    let command_counts = commands_of_one_message(fixture).await;
    assert!(
        command_counts.iter().zip(MAX_COMMANDS_ON_PLAIN_PATH).all(|(command_counts, max)| *command_counts <= max),
        "after {after}: {command_counts:?}, not {MAX_COMMANDS_ON_PLAIN_PATH:?}"
    );
}

#[tokio::test]
async fn a_queue_without_rare_features_takes_few_commands_for_a_message() {
    let fixture = TestQueue::new();
    // The first message declares the queue, and sets the timer of the idle consumers.
    commands_of_one_message(&fixture).await;
    assert_few_commands(&fixture, "nothing").await;
    for _ in 0..3 {
        fixture.post(numbered_message(1)).await;
        let delivery = fixture.lease_one().await;
        fixture.settle(&delivery, Action::FailForGood(failure())).await;
    }
    assert_few_commands(&fixture, "failures").await;
}

/// Settings that keep one completed and one failed message, so that a message that used a rare feature is soon forgotten.
const SETTINGS_THAT_KEEP_ONE_MESSAGE: &str =
    r#"{"retention": {"completed": {"count": 1, "min_age": 0}, "failed": {"count": 1, "min_age": 0}}, "id_window": 0}"#;

#[tokio::test]
async fn a_queue_returns_to_the_plain_path_after_an_option_of_messages_was_used() {
    let fixture = TestQueue::with_settings(SETTINGS_THAT_KEEP_ONE_MESSAGE);
    let options = [
        ("a priority", message_with_priority(1, 5)),
        ("an own id", NewMessage { id: Some("own".parse().unwrap()), ..numbered_message(1) }),
        ("a ttl", NewMessage { ttl: Some(Millis::new(60_000).try_into().unwrap()), ..numbered_message(1) }),
        ("a number of attempts", NewMessage { max_attempts: Some("2".parse().unwrap()), ..numbered_message(1) }),
        ("a timeout", NewMessage { timeout: Some(Millis::new(60_000).try_into().unwrap()), ..numbered_message(1) }),
        ("a hold", NewMessage { hold: Some("key".parse().unwrap()), ..numbered_message(1) }),
    ];
    for (option, message) in options {
        fixture.post(message).await;
        let signal = Signal { data: Some(to_raw_value(&5).unwrap()), ..Signal::default() };
        fixture.queue.signal(&"key".parse().unwrap(), &signal).await.unwrap();
        let delivery = fixture.lease_one().await;
        fixture.complete(&delivery).await.unwrap();
        commands_of_one_message(&fixture).await;
        assert_few_commands(&fixture, option).await;
    }
    fixture.assert_clean().await;
}

#[tokio::test]
async fn a_queue_returns_to_the_plain_path_after_settings_and_changes() {
    let fixture = TestQueue::with_settings(SETTINGS_THAT_KEEP_ONE_MESSAGE);
    for settings in
        [json!({"exclusive": true}), json!({"rate_limit": {"max": 100, "duration": 1000}}), json!({"timeout": 60_000})]
    {
        fixture.queue.configure(&settings).await.unwrap();
        commands_of_one_message(&fixture).await;
        fixture.queue.configure(&json!({"exclusive": null, "rate_limit": null, "timeout": null})).await.unwrap();
        commands_of_one_message(&fixture).await;
        assert_few_commands(&fixture, &settings.to_string()).await;
    }
    fixture.queue.pause().await.unwrap();
    fixture.queue.resume().await.unwrap();
    assert_few_commands(&fixture, "a pause").await;

    fixture.queue.cancel(&fixture.post(numbered_message(1)).await.id).await.unwrap();
    fixture.lease(1).await;
    assert_few_commands(&fixture, "a removed message").await;

    fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    fixture.queue.report_progress(&delivery.lease, &to_raw_value(&50).unwrap()).await.unwrap();
    fixture.queue.cancel(&delivery.message.id).await.unwrap();
    fixture.complete(&delivery).await.unwrap();
    fixture.queue.erase(&delivery.message.id).await.unwrap();
    commands_of_one_message(&fixture).await;
    assert_few_commands(&fixture, "progress, a cancel and an erased message").await;

    fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    assert_eq!(fixture.settle(&delivery, Action::Hold("key".parse().unwrap())).await, Some(State::Held));
    let signal = Signal { data: Some(to_raw_value(&5).unwrap()), ..Signal::default() };
    fixture.queue.signal(&"key".parse().unwrap(), &signal).await.unwrap();
    fixture.complete(&fixture.lease_one().await).await.unwrap();
    commands_of_one_message(&fixture).await;
    assert_few_commands(&fixture, "a message that was held again").await;

    fixture.post_numbers(0..5).await;
    fixture.queue.purge(State::Waiting).await.unwrap();
    commands_of_one_message(&fixture).await;
    assert_few_commands(&fixture, "a purge").await;
    fixture.assert_clean().await;
}
