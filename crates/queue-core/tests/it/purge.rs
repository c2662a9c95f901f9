//! A purge forgets the messages that exist when it begins, while other processes post, lease, retry and die.

use std::{collections::BTreeSet, time::Duration};

use drover_tests::Proxy;
use queue_core::{
    Action, Changed, Enqueued, MessageRef, Millis, NewMessage, Queues, Redis, State, settings::DeclaredSettings,
};

use crate::{
    TIME_LIMIT, TestQueue, completion, connect, failure, message_with_delay, message_with_priority, numbered_message,
    queue_name, wait_millis,
};

async fn post_many(fixture: &TestQueue, count: u64, message: impl Fn(u64) -> NewMessage) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for from in (0..count).step_by(1_000) {
        let batch = (from..count.min(from + 1_000)).map(&message).collect();
        let enqueue_outcomes = fixture.queue.enqueue(batch).await.unwrap();
        ids.extend(enqueue_outcomes.iter().map(|enqueue_outcomes| enqueue_outcomes.id().to_string()));
    }
    ids
}

async fn ids_in(fixture: &TestQueue, state: State) -> BTreeSet<String> {
    let (mut ids, mut cursor) = (BTreeSet::new(), None);
    loop {
        let page = fixture.queue.list(state, 1_000, cursor.as_deref()).await.unwrap();
        ids.extend(page.messages.iter().map(|message| message.id.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            return ids;
        }
    }
}

/// Ids are in the order of posting, so the purge is right if each kept message has a later id than every purged message.
#[tokio::test]
async fn purge_removes_every_message_posted_before_the_purge_and_no_later_message() {
    let hold = |n| NewMessage { hold: Some(format!("k{}", n % 3).parse().unwrap()), ..numbered_message(n) };
    let kinds: [(State, &dyn Fn(u64) -> NewMessage); 4] = [
        (State::Delayed, &|n| message_with_delay(n, 1_000_000 + n % 7)),
        (State::Waiting, &numbered_message),
        (State::Waiting, &|n| message_with_priority(n, i64::try_from(n % 3).unwrap() - 1)),
        (State::Held, &hold),
    ];
    for (state, message) in kinds {
        let fixture = TestQueue::new();
        let old_ids = post_many(&fixture, 8_000, message).await;
        let other_queue = connect(&fixture.redis, "{}").queue(&queue_name());
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let post_task = async {
            let mut posted_ids = BTreeSet::new();
            while !*stopped.borrow_and_update() {
                let enqueue_outcomes = other_queue.enqueue((0..20).map(message).collect()).await.unwrap();
                posted_ids.extend(enqueue_outcomes.iter().map(|enqueue_outcomes| enqueue_outcomes.id().to_string()));
            }
            posted_ids
        };
        let purge_task = async {
            wait_millis(20).await;
            let purged_count = fixture.queue.purge(state).await.unwrap();
            wait_millis(20).await;
            stop.send(true).unwrap();
            purged_count
        };
        let (posted, purged) = tokio::join!(post_task, purge_task);
        let remaining_ids = ids_in(&fixture, state).await;
        let purged_ids: BTreeSet<String> =
            old_ids.union(&posted).filter(|id| !remaining_ids.contains(*id)).cloned().collect();
        assert!(
            old_ids.is_subset(&purged_ids),
            "{state:?}: {} messages from before the purge are kept",
            old_ids.difference(&purged_ids).count()
        );
        assert_eq!(purged_ids.len() as u64, purged, "{state:?}: the purge answers the number of purged messages");
        assert!(
            purged_ids.last() < remaining_ids.first(),
            "{state:?}: {:?} is purged, {:?} is kept",
            purged_ids.last(),
            remaining_ids.first()
        );
        assert!(remaining_ids.len() >= 20, "{state:?}: some messages were posted after the purge began");
        fixture.assert_clean().await;
    }
}

/// Begins a purge of waiting messages, and interrupts it before all messages are forgotten.
async fn begin_a_purge(fixture: &TestQueue) {
    let proxy = Proxy::start(fixture.redis.port());
    let queue =
        Queues::new(Redis::new(&proxy.url(), TIME_LIMIT).unwrap(), DeclaredSettings::default()).queue(&queue_name());
    // The proxy delays the answer to the first step of the purge, so that the second step does not begin before the
    // connection is cut.
    proxy.slow(Duration::from_millis(300));
    let purge_call = queue.purge(State::Waiting);
    let cut_connection = async {
        while fixture.redis.command("EXISTS drover:{q}:purged") != ":1" {
            wait_millis(1).await;
        }
        proxy.cut();
    };
    let (purged, ()) = tokio::join!(purge_call, cut_connection);
    assert!(purged.is_err());
    assert_eq!(fixture.redis.command("EXISTS drover:{q}:purged"), ":1", "the purge was interrupted");
}

#[tokio::test]
async fn interrupted_purge_is_continued_and_its_messages_are_hidden_at_once() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1,"visibility_timeout":"1h","id_window":"1h"}"#);
    let message_with_own_id = |id: &str, n| NewMessage { id: Some(id.parse().unwrap()), ..numbered_message(n) };
    // The lease of the first message has lapsed, so that the message waits again; the consumer may still settle the lease.
    let lapsing_id = fixture.post(numbered_message(0)).await.id;
    let late_delivery = fixture.lease_one().await;
    fixture.queue.extend(std::slice::from_ref(&late_delivery.lease), Some(Millis::new(1))).await.unwrap();
    wait_millis(5).await;
    fixture.queue.maintain().await.unwrap();
    // The message `cancelled_id` is cancelled while it waits, and still has an entry in the waiting list.
    let cancelled_id = fixture.post(numbered_message(1)).await.id;
    assert_eq!(fixture.queue.cancel(&cancelled_id).await.unwrap(), Changed::Done);
    let own_id_message_id = fixture.post(message_with_own_id("order", 2)).await.id;
    fixture.post(message_with_priority(3, -5)).await;
    post_many(&fixture, 2_500, numbered_message).await;
    begin_a_purge(&fixture).await;

    let counts = fixture.queue.status().await.unwrap().unwrap().counts;
    assert_eq!((counts.waiting, counts.failed), (0, 1));
    assert!(fixture.lease(10).await.deliveries.is_empty());
    assert_eq!(fixture.complete(&late_delivery).await, None, "the message was purged");
    for id in [&lapsing_id, &own_id_message_id] {
        assert!(fixture.queue.read(std::slice::from_ref(id)).await.unwrap()[0].is_none());
        assert_eq!(fixture.queue.cancel(id).await.unwrap(), Changed::Unknown);
        assert_eq!(fixture.queue.erase(id).await.unwrap(), Changed::Unknown);
    }
    // The cancelled message was posted before the purge, and becomes ready after the purge began.
    assert_eq!(fixture.queue.retry(&cancelled_id).await.unwrap(), Changed::Done);
    let second_post = fixture.post(message_with_own_id("order", 4)).await.id;
    fixture.assert_clean().await;

    while fixture.redis.command("EXISTS drover:{q}:purged") == ":1" {
        fixture.queue.maintain().await.unwrap();
    }
    fixture.assert_clean().await;
    for key in ["purged_prioritized", "purged_removed", "returned"] {
        assert_eq!(fixture.redis.command(&format!("EXISTS drover:{{q}}:{key}")), ":0", "{key}");
    }
    assert_eq!(fixture.redis.command("HLEN drover:{q}:messages"), ":2");
    let duplicate = fixture.queue.enqueue(vec![message_with_own_id("order", 5)]).await.unwrap().remove(0);
    assert!(matches!(duplicate, Enqueued::Duplicate(_, State::Waiting)), "{duplicate:?}");
    let deliveries_now = fixture.lease(10).await.deliveries;
    let deliveries_now: Vec<&MessageRef> = deliveries_now.iter().map(|delivery| &delivery.message.id).collect();
    assert_eq!(deliveries_now, [&cancelled_id, &second_post]);
}

#[tokio::test]
async fn purge_succeeds_after_an_interrupted_purge() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1}"#);
    fixture.post(numbered_message(0)).await;
    let delivery = fixture.lease_one().await;
    fixture.settle(&delivery, Action::Fail(failure())).await;
    post_many(&fixture, 2_500, numbered_message).await;
    begin_a_purge(&fixture).await;
    post_many(&fixture, 1_500, numbered_message).await;
    assert_eq!(
        fixture.queue.purge(State::Waiting).await.unwrap(),
        1_500,
        "messages of the earlier purge are not counted again"
    );
    assert_eq!(fixture.redis.command("HLEN drover:{q}:messages"), ":1", "only the failed message is kept");
    assert_eq!(fixture.queue.purge(State::Failed).await.unwrap(), 1);
    assert_eq!(fixture.redis.command("HLEN drover:{q}:messages"), ":0");
    fixture.assert_clean().await;
}

#[tokio::test]
async fn purge_concurrent_with_consumers_keeps_every_message_posted_after_the_purge() {
    let fixture = TestQueue::new();
    post_many(&fixture, 5_000, numbered_message).await;
    let other_queue = connect(&fixture.redis, "{}").queue(&queue_name());
    let consuming = async {
        let mut completed_ids = BTreeSet::new();
        let mut idle_calls = 0;
        while idle_calls < 50 {
            let deliveries_now = fixture.lease(50).await.deliveries;
            idle_calls = if deliveries_now.is_empty() { idle_calls + 1 } else { 0 };
            for (n, delivery) in deliveries_now.iter().enumerate() {
                let action = if n % 5 == 4 { Action::Release(None) } else { completion() };
                if fixture.settle(delivery, action).await == Some(State::Completed) {
                    completed_ids.insert(delivery.message.id.to_string());
                }
            }
        }
        completed_ids
    };
    let purge_task = async {
        wait_millis(30).await;
        other_queue.purge(State::Waiting).await.unwrap();
        let mut ids_after_purge = BTreeSet::new();
        for n in 0..50 {
            ids_after_purge.insert(other_queue.enqueue(vec![numbered_message(n)]).await.unwrap()[0].id().to_string());
        }
        ids_after_purge
    };
    let (completed, after) = tokio::join!(consuming, purge_task);
    assert!(after.is_subset(&completed), "{} are missing", after.difference(&completed).count());
    fixture.assert_clean().await;
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 0);
}

#[tokio::test]
async fn purge_or_retry_of_a_deleted_queue_does_not_change_a_new_queue_of_that_name() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":1,"retention":{"completed":{"count":100000}}}"#);
    let finish_all_messages = async |action: &Action| {
        while let deliveries @ [_, ..] = &fixture.lease(1_000).await.deliveries[..] {
            let settle = |delivery: &queue_core::Delivery| queue_core::Settlement {
                lease: delivery.lease.clone(),
                action: action.clone(),
            };
            fixture.queue.settle(&deliveries.iter().map(settle).collect::<Vec<_>>()).await.unwrap();
        }
    };
    for (state, action) in [(State::Completed, completion()), (State::Failed, Action::Fail(failure()))] {
        for retries in [false, true] {
            post_many(&fixture, 3_000, numbered_message).await;
            finish_all_messages(&action).await;
            let proxy = Proxy::start(fixture.redis.port());
            let redis = Redis::new(&proxy.url(), Duration::from_secs(20)).unwrap();
            let slow_queue = Queues::new(redis, DeclaredSettings::default()).queue(&queue_name());
            slow_queue.status().await.unwrap();
            slow_queue.status().await.unwrap();
            proxy.slow(Duration::from_millis(100));
            let purge_or_retry = async {
                if retries { slow_queue.retry_failed().await.unwrap() } else { slow_queue.purge(state).await.unwrap() }
            };
            let delete_task = async {
                // `delete_task` waits until the purge or retry has done its first step, but not until it has done its
                // last step.
                let outcomes = || fixture.redis.command("HLEN drover:{q}:outcomes");
                while outcomes() == ":3000" && (state == State::Failed || !retries) {
                    wait_millis(1).await;
                }
                fixture.queue.delete().await.unwrap();
                fixture.post(numbered_message(7)).await;
                finish_all_messages(&action).await;
            };
            let (_, ()) = tokio::join!(purge_or_retry, delete_task);
            let counts = fixture.queue.status().await.unwrap().unwrap().counts;
            assert_eq!(counts.of(state), 1, "{state:?}: the message of the new queue stays");
            fixture.queue.delete().await.unwrap();
            assert_eq!(fixture.redis.command("KEYS drover:{q}:*"), "*0");
        }
    }
}
