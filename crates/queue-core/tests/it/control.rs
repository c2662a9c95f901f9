//! Tests of pauses, settings and maintenance.

use std::{sync::Arc, time::Duration};

use queue_core::{Maintenance, Millis, State, wakeup::Subscriber};
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{TestQueue, message_with_delay, numbered_message, numbers, queue_name, wait_millis};

#[tokio::test]
async fn paused_queue_delivers_nothing_while_delayed_messages_become_due() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..2).await;
    let delivery = fixture.lease_one().await;
    fixture.queue.pause().await.unwrap();
    fixture.queue.pause().await.unwrap();
    let delayed_message = fixture.post(message_with_delay(2, 300)).await;
    let lease_reply = fixture.lease(10).await;
    assert!(lease_reply.deliveries.is_empty() && !lease_reply.more_is_ready);
    assert!(fixture.queue.status().await.unwrap().unwrap().paused);
    fixture.complete(&delivery).await;
    wait_millis(310).await;
    fixture.queue.maintain().await.unwrap();
    assert_eq!(fixture.read(&delayed_message.id).await.state, State::Waiting);
    fixture.queue.resume().await.unwrap();
    assert_eq!(numbers(&fixture.lease(10).await), [1, 2]);
    assert!(!fixture.queue.status().await.unwrap().unwrap().paused);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn idle_consumers_are_woken_by_a_resume_a_changed_setting_and_a_retry() {
    let fixture = TestQueue::new();
    let subscriber = Subscriber::new(fixture.queues.redis().clone());
    tokio::spawn({
        let subscriber = subscriber.clone();
        async move { subscriber.run(CancellationToken::new()).await }
    });
    let notifier = subscriber.notifier(&queue_name());
    let one_hour = Duration::from_secs(3_600);
    let mut connection_changes = subscriber.connection();
    connection_changes.wait_for(|connection_changes| *connection_changes).await.unwrap();
    let expect_wake_up = async |what: &str| {
        timeout(Duration::from_secs(5), notifier.woken(one_hour))
            .await
            .unwrap_or_else(|_| panic!("no wake-up after {what}"));
    };
    let wait_until_quiet =
        async || while timeout(Duration::from_millis(150), notifier.woken(one_hour)).await.is_ok() {};
    let posted_message = fixture.post(numbered_message(1)).await;
    fixture.queue.pause().await.unwrap();
    wait_until_quiet().await;
    fixture.queue.resume().await.unwrap();
    expect_wake_up("a resume").await;
    wait_until_quiet().await;
    fixture.queue.configure(&json!({"rate_limit": {"max": 1, "duration": 1000}})).await.unwrap();
    expect_wake_up("a changed limit").await;
    fixture.queue.configure(&json!({"rate_limit": null})).await.unwrap();
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, queue_core::Action::FailForGood(crate::failure())).await;
    wait_until_quiet().await;
    fixture.queue.retry(&posted_message.id).await.unwrap();
    expect_wake_up("a retry").await;
    fixture.lease_one().await;
    let later_message = fixture.post(message_with_delay(2, 60_000)).await;
    wait_until_quiet().await;
    fixture.queue.promote(&later_message.id).await.unwrap();
    expect_wake_up("a promote").await;
}

#[tokio::test]
async fn settings_change_by_merge_patch_and_two_changes_at_once_are_both_kept() {
    let fixture = Arc::new(TestQueue::new());
    let change_setting = |patch| {
        let fixture = Arc::clone(&fixture);
        tokio::spawn(async move { fixture.queue.configure(&patch).await.unwrap() })
    };
    let concurrent_changes: Vec<_> = (0..10)
        .flat_map(|n| {
            [json!({"retention": {"completed": {"count": n}}}), json!({"retention": {"completed": {"age": "2h"}}})]
        })
        .chain([json!({"max_attempts": 9}), json!({"timeout": "5s"})])
        .map(change_setting)
        .collect();
    for changed in concurrent_changes {
        changed.await.unwrap();
    }
    let settings = fixture.queue.status().await.unwrap().unwrap().settings;
    assert_eq!(*settings.retention.completed.age, Millis::from_hours(2));
    assert_eq!((*settings.max_attempts, settings.timeout.map(|timeout| timeout.get())), (9, Some(5_000)));
    let defaults = json!({"retention": null, "max_attempts": null, "timeout": null});
    let settings = fixture.queue.configure(&defaults).await.unwrap();
    assert_eq!(settings, queue_core::settings::Settings::default());
    let meta_fields = fixture.redis.command("HKEYS drover:{q}:meta");
    assert!(
        !meta_fields.contains("retention") && !meta_fields.contains("timeout"),
        "defaults are not stored: {meta_fields}"
    );
    let refusal = fixture.queue.configure(&json!({"max_attempts": 9, "exclusive": 7})).await.unwrap_err();
    assert!(matches!(refusal, queue_core::Error::InvalidSetting(invalid) if invalid.setting == "exclusive"));
    assert_eq!(
        *fixture.queue.status().await.unwrap().unwrap().settings.max_attempts,
        3,
        "no setting of a refused patch is changed"
    );
}

/// Runs maintenance in the background, as the API does.
fn run_maintenance(fixture: &TestQueue) {
    let subscriber = Subscriber::for_all_queues(fixture.queues.redis().clone());
    let maintenance = Maintenance::new(fixture.queues.clone(), subscriber.clone()).unwrap();
    tokio::spawn(async move { subscriber.run(CancellationToken::new()).await });
    tokio::spawn(maintenance.run(CancellationToken::new()));
}

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 5 s");
}

#[tokio::test]
async fn maintenance_does_due_work_on_time_without_consumers() {
    let settings = r#"{"visibility_timeout":300,"max_attempts":1,
                       "retention":{"completed":{"count":5,"min_age":500,"age":1500},"failed":{"age":1500,"min_age":0}}}"#;
    let fixture = TestQueue::with_settings(settings);
    run_maintenance(&fixture);
    fixture.post_numbers(0..20).await;
    for delivery in fixture.lease(20).await.deliveries {
        fixture.complete(&delivery).await;
    }
    let ttl = Some(Millis::new(400).try_into().unwrap());
    let expiring_message = fixture.post(queue_core::NewMessage { ttl, ..message_with_delay(1, 60_000) }).await;
    let lapsing_message = fixture.post(numbered_message(2)).await;
    let lease = fixture.lease_one().await;
    let is_in_state = async |id: &queue_core::MessageRef, state| {
        fixture
            .queue
            .read(std::slice::from_ref(id))
            .await
            .unwrap()
            .remove(0)
            .is_some_and(|message| message.state == state)
    };
    wait_until("a lapsed lease is recovered", async || is_in_state(&lapsing_message.id, State::Waiting).await).await;
    let recovered_message = fixture.read(&lapsing_message.id).await;
    assert_eq!((recovered_message.lapses, recovered_message.deliveries), (1, 1));
    assert!(lease.lease_expires_at > lease.message.created_at);
    wait_until("the expired message has failed", async || is_in_state(&expiring_message.id, State::Failed).await).await;
    let completed_count = async || fixture.queue.status().await.unwrap().unwrap().counts.completed;
    wait_until("completed messages beyond the count are forgotten", async || completed_count().await == 5).await;
    wait_until("completed messages beyond the age are forgotten", async || completed_count().await == 0).await;
    wait_until("dead letters are forgotten too", async || {
        fixture.queue.status().await.unwrap().unwrap().counts.failed == 0
    })
    .await;
    assert_eq!(fixture.redis.command("HLEN drover:{q}:messages"), ":1");
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:outcomes"), ":0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn maintenance_runs_at_the_time_for_which_all_consumers_have_a_timer() {
    let fixture = TestQueue::new();
    run_maintenance(&fixture);
    let lease_for = async |millis| {
        let visibility_timeout = Some(Millis::new(millis));
        let request = queue_core::LeaseRequest { visibility_timeout, ..fixture.request(1) };
        fixture.queue.lease(&request).await.unwrap().deliveries.remove(0)
    };
    fixture.post(numbered_message(1)).await;
    fixture.complete(&lease_for(1_500).await).await;
    let posted_message = fixture.post(numbered_message(2)).await;
    // While the test waits 0.7 s, maintenance checks the queue and finds nothing due.
    wait_millis(700).await;
    let lost_lease = lease_for(1_500).await;
    wait_until("the lease is found to have lapsed", async || fixture.read(&posted_message.id).await.lapses == 1).await;
    let leased_again_at =
        fixture.queue.lease(&fixture.request(1)).await.unwrap().deliveries[0].message.started_at.unwrap();
    assert!(
        leased_again_at.since(lost_lease.lease_expires_at) < Millis::from_secs(3),
        "the timer starts the work, not a later check"
    );
}

#[tokio::test]
async fn message_posted_behind_cancelled_messages_wakes_an_idle_consumer() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true}"#);
    let subscriber = Subscriber::new(fixture.queues.redis().clone());
    tokio::spawn({
        let subscriber = subscriber.clone();
        async move { subscriber.run(CancellationToken::new()).await }
    });
    let notifier = subscriber.notifier(&queue_name());
    subscriber.connection().wait_for(|connected| *connected).await.unwrap();
    fixture.post(numbered_message(1)).await;
    let delivery = fixture.lease_one().await;
    let cancelled_message = fixture.post(numbered_message(2)).await;
    fixture.queue.cancel(&cancelled_message.id).await.unwrap();
    fixture.complete(&delivery).await;
    let one_hour = Duration::from_secs(3_600);
    while timeout(Duration::from_millis(150), notifier.woken(one_hour)).await.is_ok() {}
    fixture.post(numbered_message(3)).await;
    timeout(Duration::from_secs(5), notifier.woken(one_hour)).await.expect("the notifier wakes its consumer");
    assert_eq!(numbers(&fixture.lease(1).await), [3]);
}

#[tokio::test]
async fn message_cancelled_while_waiting_leaves_nothing_without_any_lease_call() {
    let fixture = TestQueue::new();
    run_maintenance(&fixture);
    let ttl = Some(Millis::new(100).try_into().unwrap());
    let batch = (0..1_000).map(|n| queue_core::NewMessage { ttl, ..numbered_message(n) }).collect();
    fixture.queue.enqueue(batch).await.unwrap();
    let keys = "EXISTS drover:{q}:waiting drover:{q}:removed drover:{q}:expiring";
    wait_until("the waiting list is empty", async || fixture.redis.command(keys) == ":0").await;
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.failed, 1_000);
}

#[tokio::test]
async fn maintenance_sleeps_while_nothing_is_due() {
    let fixture = TestQueue::new();
    fixture.post_numbers(0..10).await;
    run_maintenance(&fixture);
    let calls = || -> u32 {
        let stats = fixture.redis.command("INFO commandstats");
        let evalsha = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or("calls=0,");
        evalsha.split("calls=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
    };
    let mut calls_before = calls();
    // This loop ends when no script was called for a second: maintenance has checked the queue then.
    loop {
        wait_millis(1_000).await;
        if calls_before == std::mem::replace(&mut calls_before, calls()) {
            break;
        }
    }
    wait_millis(2_000).await;
    assert_eq!(calls(), calls_before);
}

#[tokio::test]
async fn patch_of_the_back_off_changes_only_the_members_that_it_names() {
    let fixture = TestQueue::new();
    for (patch, delay, max) in [
        (json!({"backoff": {"delay": "2h"}}), Millis::from_hours(2), Millis::from_hours(1)),
        (json!({"backoff": {"delay": "1s"}}), Millis::from_secs(1), Millis::from_hours(1)),
        (json!({"backoff": {"max": "5m"}}), Millis::from_secs(1), Millis::from_secs(300)),
        (json!({"backoff": {"delay": "10m"}}), Millis::from_secs(600), Millis::from_secs(300)),
        (json!({"backoff": {"delay": "2s"}}), Millis::from_secs(2), Millis::from_secs(300)),
    ] {
        fixture.queue.configure(&patch).await.unwrap();
        let backoff = fixture.queue.status().await.unwrap().unwrap().settings.backoff;
        assert_eq!((*backoff.delay, *backoff.max), (delay, max), "{patch}");
    }
}

#[tokio::test]
async fn a_back_off_is_never_shorter_than_its_delay() {
    let fixture = TestQueue::with_settings(r#"{"backoff":{"type":"fixed","delay":"2h","max":"1h","jitter":0}}"#);
    let posted_id = fixture.post(numbered_message(1)).await.id;
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, queue_core::Action::Fail(crate::failure())).await;
    let message = fixture.read(&posted_id).await;
    assert_eq!(message.due_at.since(message.error.unwrap().at), Millis::from_hours(2));
}
