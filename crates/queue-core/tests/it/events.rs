//! Tests of the events of a queue and of listeners to these events.

use std::time::Duration;

use queue_core::{
    Action, Millis, NewMessage, Queues, Signal,
    feed::{EventFeed, EventId, EventListener},
    wakeup::Subscriber,
};
use serde_json::{Value, json, value::to_raw_value};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    TestQueue, completion, connect, failure, message_with_delay, numbered_message, numbers, queue_name, wait_millis,
};

/// The maximum time that a test waits for an event, on a busy machine.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

fn start_subscriber(queues: &Queues) -> Subscriber {
    let subscriber = Subscriber::for_all_queues(queues.redis().clone());
    let running_subscriber = subscriber.clone();
    tokio::spawn(async move { running_subscriber.run(CancellationToken::new()).await });
    subscriber
}

fn start_feed(fixture: &TestQueue) -> EventFeed {
    EventFeed::new(start_subscriber(&fixture.queues), CancellationToken::new())
}

/// Starts a listener to the events of a new queue.
async fn start_listener(fixture: &TestQueue) -> EventListener {
    fixture.queue.declare().await.unwrap();
    start_feed(fixture).listen(&fixture.queue, None).await.unwrap().unwrap()
}

/// Waits for the next events, and returns the kind, the JSON and the id of each.
async fn receive_next(listener: &mut EventListener) -> Vec<(&'static str, Value, Option<EventId>)> {
    let events = timeout(WAIT_LIMIT, listener.next_events()).await.expect("an event is received").unwrap();
    events.iter().map(|event| (event.kind.as_str(), serde_json::from_str(event.json()).unwrap(), event.id)).collect()
}

/// Waits for this many events, and returns the kind, the JSON and the id of each.
async fn receive_events(listener: &mut EventListener, count: usize) -> Vec<(&'static str, Value, EventId)> {
    let mut received_events = Vec::new();
    while received_events.len() < count {
        received_events.extend(
            receive_next(listener).await.into_iter().map(|(kind, json, id)| (kind, json, id.expect("not a reset"))),
        );
    }
    assert_eq!(received_events.len(), count, "{received_events:?}");
    received_events
}

/// Waits for this many events, and returns the kind of each with the id of its message.
async fn kinds_and_ids(listener: &mut EventListener, count: usize) -> Vec<String> {
    let received_events = receive_events(listener, count).await;
    received_events.iter().map(|(kind, json, _)| format!("{kind} {}", json["id"].as_str().unwrap())).collect()
}

async fn receive_reset(listener: &mut EventListener) -> Option<EventId> {
    match &receive_next(listener).await[..] {
        [("reset", _, newest)] => *newest,
        events => panic!("not a reset: {events:?}"),
    }
}

fn with_own_id(own_id: &str, message: NewMessage) -> NewMessage {
    NewMessage { id: Some(own_id.parse().unwrap()), ..message }
}

#[tokio::test]
async fn every_change_of_state_is_an_event_with_its_cause() {
    let fixture = TestQueue::with_settings(r#"{"max_attempts":2,"backoff":{"type":"fixed","delay":0},"max_lapses":2}"#);
    let mut listener = start_listener(&fixture).await;
    let mut expect_events = async |expected: Vec<(&str, Value)>| {
        let received_events = receive_events(&mut listener, expected.len()).await;
        for ((expected_kind, expected_json), (kind, mut json, _)) in expected.into_iter().zip(received_events) {
            let json = json.as_object_mut().unwrap();
            assert!(json.remove("at").unwrap().as_str().unwrap().ends_with('Z'));
            assert_eq!((kind, &Value::Object(json.clone())), (expected_kind, &expected_json));
        }
    };
    let consumer = fixture.consumer.as_str();

    let post = NewMessage { name: Some("welcome".parse().unwrap()), ..with_own_id("a", message_with_delay(1, 60_000)) };
    let posted_message = fixture.post(post).await;
    let message = posted_message.id.clone();
    expect_events(vec![(
        "enqueued",
        json!({"id": "a", "state": "delayed", "name": "welcome", "due_at": posted_message.due_at}),
    )])
    .await;
    fixture.queue.promote(&message).await.unwrap();
    let lease_reply = fixture.lease_one().await;
    fixture.queue.report_progress(&lease_reply.lease, &to_raw_value(&json!({"done": 40})).unwrap()).await.unwrap();
    fixture.settle(&lease_reply, Action::Fail(failure())).await;
    let lease_reply = fixture.lease_one().await;
    fixture.settle(&lease_reply, Action::Release(Some(Millis::from_secs(60)))).await;
    let due_at = fixture.read(&message).await.due_at;
    fixture.queue.promote(&message).await.unwrap();
    let lease_reply = fixture.lease_one().await;
    fixture.settle(&lease_reply, Action::Hold("back".parse().unwrap())).await;
    fixture.queue.signal(&"back".parse().unwrap(), &Signal::default()).await.unwrap();
    let lease_reply = fixture.lease_one().await;
    fixture.settle(&lease_reply, Action::Fail(failure())).await;
    fixture.queue.retry(&message).await.unwrap();
    let lease_reply = fixture.lease_one().await;
    fixture.complete(&lease_reply).await;
    fixture.queue.erase(&message).await.unwrap();
    let error = json!({"code": "boom", "message": "it went wrong"});
    let run_event =
        |state: &str, attempt: u32| json!({"id": "a", "state": state, "attempt": attempt, "consumer": consumer});
    let with_member = |mut json: Value, key: &str, value: Value| {
        json[key] = value;
        json
    };
    let started_event = |attempt| ("started", with_member(run_event("active", attempt), "name", json!("welcome")));
    expect_events(vec![
        ("promoted", json!({"id": "a", "state": "waiting"})),
        started_event(1),
        ("progress", with_member(run_event("active", 1), "progress", json!({"done": 40}))),
        ("retried", with_member(run_event("waiting", 1), "error", error.clone())),
        started_event(2),
        ("released", with_member(run_event("delayed", 2), "due_at", json!(due_at))),
        ("promoted", json!({"id": "a", "state": "waiting"})),
        started_event(2),
        ("released", with_member(run_event("held", 2), "hold", json!("back"))),
        ("signalled", json!({"id": "a", "state": "waiting"})),
        started_event(2),
        ("failed", with_member(run_event("failed", 2), "error", error)),
        ("retried", json!({"id": "a", "state": "waiting"})),
        started_event(1),
        ("completed", run_event("completed", 1)),
        ("erased", json!({"id": "a", "state": null})),
    ])
    .await;

    // The second part of the test covers the events that the first part does not cover: a message is held, lapses, lapses too
    // often, expires, is cancelled, is purged.
    let (hold, ttl) = (Some("paid".parse().unwrap()), Some(Millis::new(1).try_into().unwrap()));
    fixture.post(NewMessage { hold, ..with_own_id("b", numbered_message(2)) }).await;
    fixture.queue.signal(&"paid".parse().unwrap(), &Signal::default()).await.unwrap();
    let short_request = queue_core::LeaseRequest { visibility_timeout: Some(Millis::new(1)), ..fixture.request(1) };
    for _ in 0..2 {
        assert_eq!(fixture.queue.lease(&short_request).await.unwrap().deliveries.len(), 1);
        wait_millis(5).await;
    }
    fixture.queue.maintain().await.unwrap();
    fixture.post(NewMessage { ttl, ..with_own_id("c", numbered_message(3)) }).await;
    wait_millis(5).await;
    fixture.queue.maintain().await.unwrap();
    fixture.post(with_own_id("d", numbered_message(4))).await;
    fixture.queue.cancel(&"d".parse().unwrap()).await.unwrap();
    fixture.post(with_own_id("e", numbered_message(5))).await;
    fixture.queue.purge("waiting".parse().unwrap()).await.unwrap();
    let run_event = |state: &str, attempt: u32| with_member(run_event(state, attempt), "id", json!("b"));
    let failed_event = |id: &str, code: &str, message: &str| json!({"id": id, "state": "failed", "attempt": 0, "error": {"code": code, "message": message}});
    let lapsed_event = failed_event("b", "lease_lapsed", "the lease lapsed 2 times without an answer");
    expect_events(vec![
        ("enqueued", json!({"id": "b", "state": "held", "hold": "paid"})),
        ("signalled", json!({"id": "b", "state": "waiting"})),
        ("started", run_event("active", 1)),
        ("lapsed", run_event("waiting", 1)),
        ("started", run_event("active", 1)),
        ("failed", with_member(lapsed_event, "consumer", json!(consumer))),
        ("enqueued", json!({"id": "c", "state": "waiting"})),
        ("failed", failed_event("c", "expired", "not started within its ttl")),
        ("enqueued", json!({"id": "d", "state": "waiting"})),
        ("failed", failed_event("d", "cancelled", "cancelled on request")),
        ("enqueued", json!({"id": "e", "state": "waiting"})),
        ("erased", json!({"id": "e", "state": null})),
    ])
    .await;
    fixture.assert_clean().await;
}

#[tokio::test]
async fn without_listeners_there_is_no_event_log_and_no_additional_call() {
    let fixture = TestQueue::new();
    fixture.queue.declare().await.unwrap();
    let calls = |command: &str| {
        let stats = fixture.redis.command("INFO commandstats");
        let command_stats =
            stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))).unwrap_or_default();
        command_stats.split("calls=").nth(1).map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    fixture.redis.command("CONFIG RESETSTAT");
    fixture.post_numbers(0..300).await;
    let lease_reply = fixture.lease(300).await;
    for delivery in &lease_reply.deliveries {
        fixture.complete(delivery).await;
    }
    assert_eq!((calls("xadd"), calls("xrange"), calls("expire"), calls("pexpire")), (0, 0, 0, 0));
    assert!(fixture.redis.command("EXISTS drover:{q}:events").contains(":0"));
    assert!(fixture.redis.command("HEXISTS drover:{q}:meta listened_until").contains(":0"));
}

#[tokio::test]
async fn listener_that_resumes_receives_missed_events_once_and_in_order() {
    let fixture = TestQueue::new();
    fixture.queue.declare().await.unwrap();
    let feed = start_feed(&fixture);
    let mut listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    let post_task = async {
        for n in 0..300_u64 {
            // Some posts are batches, whose messages share an entry of the log, so a listener may resume in the middle of an entry.
            fixture
                .queue
                .enqueue((0..=n % 7).map(|m| with_own_id(&format!("m{n}-{m}"), numbered_message(n))).collect())
                .await
                .unwrap();
        }
    };
    let expected_ids: Vec<String> = (0..300).flat_map(|n| (0..=n % 7).map(move |m| format!("m{n}-{m}"))).collect();
    let receiving = async {
        let mut received_ids: Vec<String> = Vec::new();
        let mut last_event_id = None;
        while received_ids.len() < expected_ids.len() {
            let events = receive_next(&mut listener).await;
            // The listener reconnects after a different position each time.
            let received_count = 1 + received_ids.len() % events.len().max(1);
            for (kind, json, id) in events.into_iter().take(received_count) {
                assert_ne!(kind, "reset", "after {received_ids:?}");
                received_ids.push(json["id"].as_str().unwrap().to_owned());
                last_event_id = id;
            }
            listener = feed.listen(&fixture.queue, last_event_id).await.unwrap().unwrap();
        }
        received_ids
    };
    let (received, ()) = tokio::join!(receiving, post_task);
    assert_eq!(received, expected_ids);
}

#[tokio::test]
async fn events_that_left_the_log_are_reported_by_a_reset_and_the_feed_goes_on() {
    let fixture = TestQueue::new();
    let mut listener = start_listener(&fixture).await;
    let feed = start_feed(&fixture);
    for n in 0..300 {
        fixture.post(numbered_message(n)).await;
    }
    let first_event_id = receive_events(&mut listener, 300).await[0].2;
    // HINCRBY moves the end of the event log by 20 MB, which is more than the event log keeps.
    fixture.redis.command("HINCRBY drover:{q}:meta events_end 20000000");
    fixture.post(numbered_message(1)).await;
    let mut listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    let mut resumed_listener = feed.listen(&fixture.queue, Some(first_event_id)).await.unwrap().unwrap();
    assert_eq!(receive_reset(&mut resumed_listener).await, listener.last());
    fixture.post(with_own_id("later", numbered_message(1))).await;
    assert_eq!(kinds_and_ids(&mut resumed_listener, 1).await, ["enqueued later"]);
    assert_eq!(kinds_and_ids(&mut listener, 1).await, ["enqueued later"]);
    // One unknown id belongs to no entry of the event log. The other unknown id numbers an event that its entry of the
    // log does not contain.
    for unknown_id in ["5-1795424400000-1", &format!("{}9", listener.last().unwrap())] {
        let mut resumed_listener =
            feed.listen(&fixture.queue, Some(unknown_id.parse().unwrap())).await.unwrap().unwrap();
        assert!(receive_reset(&mut resumed_listener).await.is_some(), "{unknown_id}");
    }
    let length_reply = fixture.redis.command("XLEN drover:{q}:events");
    let log_length: usize = length_reply.trim_start_matches(':').parse().unwrap();
    assert!(log_length < 250, "the log is trimmed: {log_length}");
}

#[tokio::test]
async fn event_log_is_kept_for_ten_minutes_after_the_last_listener_and_then_nothing_is_written() {
    let fixture = TestQueue::new();
    let listener = start_listener(&fixture).await;
    let feed = start_feed(&fixture);
    fixture.post(numbered_message(1)).await;
    let last_event_id = listener.last();
    drop(listener);
    let event_count: u64 =
        fixture.redis.command("PTTL drover:{q}:events").trim_start_matches(':').parse().expect("the log has an expiry");
    assert!((600_000..=660_000).contains(&event_count), "{event_count} ms");
    fixture.post(numbered_message(2)).await;
    assert!(fixture.redis.command("XLEN drover:{q}:events").contains(":3"));
    // HSET sets `listened_until` to an instant in the past, so the queue logs no more events.
    fixture.redis.command("HSET drover:{q}:meta listened_until 1");
    fixture.post(numbered_message(3)).await;
    assert!(fixture.redis.command("XLEN drover:{q}:events").contains(":3"), "nothing more is written");
    let mut resumed_listener = feed.listen(&fixture.queue, last_event_id).await.unwrap().unwrap();
    assert!(receive_reset(&mut resumed_listener).await.is_some(), "there is a gap, so a new log begins");
    fixture.post(with_own_id("new", numbered_message(4))).await;
    assert_eq!(kinds_and_ids(&mut resumed_listener, 1).await, ["enqueued new"]);
}

#[tokio::test]
async fn deleted_queue_and_emptied_redis_are_reported_by_resets() {
    let fixture = TestQueue::new();
    let mut listener = start_listener(&fixture).await;
    fixture.queue.delete().await.unwrap();
    assert_eq!(receive_reset(&mut listener).await, None);
    // A listener does not create a queue.
    assert!(start_feed(&fixture).listen(&fixture.queue, None).await.unwrap().is_none());
    assert!(fixture.redis.command("EXISTS drover:{q}:meta").contains(":0"));
    fixture.post(numbered_message(1)).await;
    assert!(receive_reset(&mut listener).await.is_some());
    fixture.post(with_own_id("new", numbered_message(2))).await;
    assert_eq!(kinds_and_ids(&mut listener, 1).await, ["enqueued new"]);
    fixture.redis.command("FLUSHALL");
    assert_eq!(receive_reset(&mut listener).await, None);
    fixture.post(numbered_message(3)).await;
    assert!(receive_reset(&mut listener).await.is_some());
}

#[tokio::test]
async fn listener_that_does_not_read_is_disconnected_and_others_receive_all_events() {
    let fixture = TestQueue::new();
    fixture.queue.declare().await.unwrap();
    let feed = start_feed(&fixture);
    let mut slow_listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    let mut other_listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    for n in 0..200 {
        fixture.post(with_own_id(&format!("m{n}"), numbered_message(n))).await;
        assert_eq!(kinds_and_ids(&mut other_listener, 1).await, [format!("enqueued m{n}")]);
    }
    let listener_end = timeout(WAIT_LIMIT, slow_listener.next_events()).await.unwrap();
    assert_eq!(listener_end.unwrap_err().to_string(), "the listener fell too far behind");
    let mut resumed_listener = feed.listen(&fixture.queue, slow_listener.last()).await.unwrap().unwrap();
    assert_eq!(receive_events(&mut resumed_listener, 200).await.len(), 200, "the missed events are in the log");
}

#[tokio::test]
async fn events_are_received_without_any_notification() {
    let fixture = TestQueue::new();
    fixture.queue.declare().await.unwrap();
    // A subscriber that does not run receives no notification.
    let idle_subscriber = Subscriber::new(fixture.queues.redis().clone());
    let feed = EventFeed::new(idle_subscriber, CancellationToken::new());
    let mut listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    for _ in 0..2 {
        fixture.post(with_own_id("a", numbered_message(1))).await;
        wait_millis(20).await;
        fixture.queue.erase(&"a".parse().unwrap()).await.unwrap();
    }
    assert_eq!(kinds_and_ids(&mut listener, 4).await, ["enqueued a", "erased a", "enqueued a", "erased a"]);
}

#[tokio::test]
async fn listeners_of_another_process_receive_the_same_events() {
    let fixture = TestQueue::new();
    let mut own_listener = start_listener(&fixture).await;
    let other_queues = connect(&fixture.redis, "{}");
    let mut other_listener = EventFeed::new(start_subscriber(&other_queues), CancellationToken::new())
        .listen(&other_queues.queue(&queue_name()), None)
        .await
        .unwrap()
        .unwrap();
    fixture.post_numbers(0..1_000).await;
    let lease_reply = fixture.lease(1_000).await;
    assert_eq!(numbers(&lease_reply).len(), 1_000);
    fixture.settle(&lease_reply.deliveries[0], completion()).await;
    let received_events = receive_events(&mut own_listener, 2_001).await;
    assert_eq!(received_events, receive_events(&mut other_listener, 2_001).await);
    assert!(received_events.is_sorted_by_key(|(.., id)| *id));
}

#[tokio::test]
async fn listener_ends_when_its_process_stops() {
    let fixture = TestQueue::new();
    fixture.queue.declare().await.unwrap();
    let stop_token = CancellationToken::new();
    let subscriber = start_subscriber(&fixture.queues);
    let feed = EventFeed::new(subscriber, stop_token.clone());
    let mut listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    stop_token.cancel();
    assert_eq!(listener.next_events().await.unwrap_err().to_string(), "this process stops");
    timeout(WAIT_LIMIT, feed.wait_until_stopped()).await.expect("the readers of the queue have ended");
}
