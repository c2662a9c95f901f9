//! The events of a queue and their listeners.

use std::time::Duration;

use queue_core::{
    Action, Millis, NewMessage, Queues, Signal,
    feed::{EventFeed, EventId, EventListener},
    wakeup::Subscriber,
};
use serde_json::{Value, json, value::to_raw_value};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{TestQueue, connect, delayed, done, failure, name, numbered, numbers, wait_millis};

/// The maximum time that a test waits for an event, on a busy machine.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

fn subscribed(queues: &Queues) -> Subscriber {
    let subscriber = Subscriber::of_all_queues(queues.redis().clone());
    let running = subscriber.clone();
    tokio::spawn(async move { running.run(CancellationToken::new()).await });
    subscriber
}

fn feed(fixture: &TestQueue) -> EventFeed {
    EventFeed::new(subscribed(&fixture.queues), CancellationToken::new())
}

/// Starts a listener to the events of a new queue.
async fn listening(fixture: &TestQueue) -> EventListener {
    fixture.queue.declare().await.unwrap();
    feed(fixture).listen(&fixture.queue, None).await.unwrap().unwrap()
}

/// Waits for the next events, and returns the kind, the JSON and the id of each.
async fn receive_next(listener: &mut EventListener) -> Vec<(&'static str, Value, Option<EventId>)> {
    let events = timeout(WAIT_LIMIT, listener.next_events()).await.expect("an event is received").unwrap();
    events.iter().map(|event| (event.kind.as_str(), serde_json::from_str(event.json()).unwrap(), event.id)).collect()
}

/// Waits for this many events, and returns the kind, the JSON and the id of each.
async fn receive(listener: &mut EventListener, count: usize) -> Vec<(&'static str, Value, EventId)> {
    let mut received = Vec::new();
    while received.len() < count {
        received.extend(
            receive_next(listener).await.into_iter().map(|(kind, json, id)| (kind, json, id.expect("not a reset"))),
        );
    }
    assert_eq!(received.len(), count, "{received:?}");
    received
}

/// Waits for this many events, and returns the kind of each with the id of its message.
async fn kinds_and_ids(listener: &mut EventListener, count: usize) -> Vec<String> {
    let received = receive(listener, count).await;
    received.iter().map(|(kind, json, _)| format!("{kind} {}", json["id"].as_str().unwrap())).collect()
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
    let mut listener = listening(&fixture).await;
    let mut expect = async |expected: Vec<(&str, Value)>| {
        let received = receive(&mut listener, expected.len()).await;
        for ((expected_kind, expected_json), (kind, mut json, _)) in expected.into_iter().zip(received) {
            let json = json.as_object_mut().unwrap();
            assert!(json.remove("at").unwrap().as_str().unwrap().ends_with('Z'));
            assert_eq!((kind, &Value::Object(json.clone())), (expected_kind, &expected_json));
        }
    };
    let me = fixture.consumer.as_str();

    let post = NewMessage { name: Some("welcome".parse().unwrap()), ..with_own_id("a", delayed(1, 60_000)) };
    let posted = fixture.post(post).await;
    let message = posted.id.clone();
    expect(vec![("enqueued", json!({"id": "a", "state": "delayed", "name": "welcome", "due_at": posted.due_at}))])
        .await;
    fixture.queue.promote(&message).await.unwrap();
    let leased = fixture.lease_one().await;
    fixture.queue.report_progress(&leased.lease, &to_raw_value(&json!({"done": 40})).unwrap()).await.unwrap();
    fixture.settle(&leased, Action::Fail(failure())).await;
    let leased = fixture.lease_one().await;
    fixture.settle(&leased, Action::Release(Some(Millis::from_secs(60)))).await;
    let due = fixture.read(&message).await.due_at;
    fixture.queue.promote(&message).await.unwrap();
    let leased = fixture.lease_one().await;
    fixture.settle(&leased, Action::Fail(failure())).await;
    fixture.queue.retry(&message).await.unwrap();
    let leased = fixture.lease_one().await;
    fixture.complete(&leased).await;
    fixture.queue.erase(&message).await.unwrap();
    let error = json!({"code": "boom", "message": "it went wrong"});
    let of_run = |state: &str, attempt: u32| json!({"id": "a", "state": state, "attempt": attempt, "consumer": me});
    let with = |mut json: Value, key: &str, value: Value| {
        json[key] = value;
        json
    };
    let started = |attempt| ("started", with(of_run("active", attempt), "name", json!("welcome")));
    expect(vec![
        ("promoted", json!({"id": "a", "state": "waiting"})),
        started(1),
        ("progress", with(of_run("active", 1), "progress", json!({"done": 40}))),
        ("retried", with(of_run("waiting", 1), "error", error.clone())),
        started(2),
        ("released", with(of_run("delayed", 2), "due_at", json!(due))),
        ("promoted", json!({"id": "a", "state": "waiting"})),
        started(2),
        ("failed", with(of_run("failed", 2), "error", error)),
        ("retried", json!({"id": "a", "state": "waiting"})),
        started(1),
        ("completed", of_run("completed", 1)),
        ("erased", json!({"id": "a", "state": null})),
    ])
    .await;

    // The second part has the other events: a message is held, lapses, lapses too often, expires, is cancelled, is purged.
    let hold = Some("paid".parse().unwrap());
    fixture.post(NewMessage { hold, ..with_own_id("b", numbered(2)) }).await;
    fixture.queue.signal(&"paid".parse().unwrap(), &Signal::default()).await.unwrap();
    let short = queue_core::LeaseRequest { visibility_timeout: Some(Millis::new(1)), ..fixture.request(1) };
    for _ in 0..2 {
        assert_eq!(fixture.queue.lease(&short).await.unwrap().deliveries.len(), 1);
        wait_millis(5).await;
    }
    fixture.queue.maintain().await.unwrap();
    fixture.post(NewMessage { ttl: Some(Millis::new(1).try_into().unwrap()), ..with_own_id("c", numbered(3)) }).await;
    wait_millis(5).await;
    fixture.queue.maintain().await.unwrap();
    fixture.post(with_own_id("d", numbered(4))).await;
    fixture.queue.cancel(&"d".parse().unwrap()).await.unwrap();
    fixture.post(with_own_id("e", numbered(5))).await;
    fixture.queue.purge("waiting".parse().unwrap()).await.unwrap();
    let of_run = |state: &str, attempt: u32| json!({"id": "b", "state": state, "attempt": attempt, "consumer": me});
    let failed = |id: &str, code: &str, message: &str| json!({"id": id, "state": "failed", "attempt": 0, "error": {"code": code, "message": message}});
    let lapsed = failed("b", "lease_lapsed", "the lease lapsed 2 times without an answer");
    expect(vec![
        ("enqueued", json!({"id": "b", "state": "held", "hold": "paid"})),
        ("signalled", json!({"id": "b", "state": "waiting"})),
        ("started", of_run("active", 1)),
        ("lapsed", of_run("waiting", 1)),
        ("started", of_run("active", 1)),
        ("failed", with(lapsed, "consumer", json!(me))),
        ("enqueued", json!({"id": "c", "state": "waiting"})),
        ("failed", failed("c", "expired", "not started within its ttl")),
        ("enqueued", json!({"id": "d", "state": "waiting"})),
        ("failed", failed("d", "cancelled", "cancelled on request")),
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
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))).unwrap_or_default();
        line.split("calls=").nth(1).map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    fixture.redis.command("CONFIG RESETSTAT");
    fixture.post_numbers(0..300).await;
    let leased = fixture.lease(300).await;
    for delivery in &leased.deliveries {
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
    let feed = feed(&fixture);
    let mut listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    let posting = async {
        for n in 0..300_u64 {
            // Some posts are batches, so a listener may resume in the middle of an entry.
            fixture
                .queue
                .enqueue((0..=n % 7).map(|m| with_own_id(&format!("m{n}-{m}"), numbered(n))).collect())
                .await
                .unwrap();
        }
    };
    let expected: Vec<String> = (0..300).flat_map(|n| (0..=n % 7).map(move |m| format!("m{n}-{m}"))).collect();
    let receiving = async {
        let mut received: Vec<String> = Vec::new();
        let mut last = None;
        while received.len() < expected.len() {
            let events = receive_next(&mut listener).await;
            // The listener reconnects after a different position each time.
            let count = 1 + received.len() % events.len().max(1);
            for (kind, json, id) in events.into_iter().take(count) {
                assert_ne!(kind, "reset", "after {received:?}");
                received.push(json["id"].as_str().unwrap().to_owned());
                last = id;
            }
            listener = feed.listen(&fixture.queue, last).await.unwrap().unwrap();
        }
        received
    };
    let (received, ()) = tokio::join!(receiving, posting);
    assert_eq!(received, expected);
}

#[tokio::test]
async fn events_that_left_the_log_are_reported_by_a_reset_and_the_feed_goes_on() {
    let fixture = TestQueue::new();
    let mut listener = listening(&fixture).await;
    let feed = feed(&fixture);
    for n in 0..300 {
        fixture.post(numbered(n)).await;
    }
    let first = receive(&mut listener, 300).await[0].2;
    // The command moves the end of the log by 20 MB, more than the log keeps.
    fixture.redis.command("HINCRBY drover:{q}:meta events_end 20000000");
    fixture.post(numbered(1)).await;
    let mut listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    let mut resumed = feed.listen(&fixture.queue, Some(first)).await.unwrap().unwrap();
    assert_eq!(receive_reset(&mut resumed).await, listener.last());
    fixture.post(with_own_id("later", numbered(1))).await;
    assert_eq!(kinds_and_ids(&mut resumed, 1).await, ["enqueued later"]);
    assert_eq!(kinds_and_ids(&mut listener, 1).await, ["enqueued later"]);
    // The unknown ids are an id that no event had, and the id of an event beyond the end of its entry.
    for unknown_id in ["5-1795424400000-1", &format!("{}9", listener.last().unwrap())] {
        let mut resumed = feed.listen(&fixture.queue, Some(unknown_id.parse().unwrap())).await.unwrap().unwrap();
        assert!(receive_reset(&mut resumed).await.is_some(), "{unknown_id}");
    }
    let length = fixture.redis.command("XLEN drover:{q}:events");
    let length: usize = length.trim_start_matches(':').parse().unwrap();
    assert!(length < 250, "the log is trimmed: {length}");
}

#[tokio::test]
async fn event_log_is_kept_for_ten_minutes_after_the_last_listener_and_then_nothing_is_written() {
    let fixture = TestQueue::new();
    let listener = listening(&fixture).await;
    let feed = feed(&fixture);
    fixture.post(numbered(1)).await;
    let last = listener.last();
    drop(listener);
    let left: u64 =
        fixture.redis.command("PTTL drover:{q}:events").trim_start_matches(':').parse().expect("the log has an expiry");
    assert!((600_000..=660_000).contains(&left), "{left} ms");
    fixture.post(numbered(2)).await;
    assert!(fixture.redis.command("XLEN drover:{q}:events").contains(":3"));
    // The command ends the time for which events are logged.
    fixture.redis.command("HSET drover:{q}:meta listened_until 1");
    fixture.post(numbered(3)).await;
    assert!(fixture.redis.command("XLEN drover:{q}:events").contains(":3"), "nothing more is written");
    let mut resumed = feed.listen(&fixture.queue, last).await.unwrap().unwrap();
    assert!(receive_reset(&mut resumed).await.is_some(), "there is a gap, so a new log begins");
    fixture.post(with_own_id("new", numbered(4))).await;
    assert_eq!(kinds_and_ids(&mut resumed, 1).await, ["enqueued new"]);
}

#[tokio::test]
async fn deleted_queue_and_emptied_redis_are_reported_by_resets() {
    let fixture = TestQueue::new();
    let mut listener = listening(&fixture).await;
    fixture.queue.delete().await.unwrap();
    assert_eq!(receive_reset(&mut listener).await, None);
    // A listener does not create a queue.
    assert!(feed(&fixture).listen(&fixture.queue, None).await.unwrap().is_none());
    assert!(fixture.redis.command("EXISTS drover:{q}:meta").contains(":0"));
    fixture.post(numbered(1)).await;
    assert!(receive_reset(&mut listener).await.is_some());
    fixture.post(with_own_id("new", numbered(2))).await;
    assert_eq!(kinds_and_ids(&mut listener, 1).await, ["enqueued new"]);
    fixture.redis.command("FLUSHALL");
    assert_eq!(receive_reset(&mut listener).await, None);
    fixture.post(numbered(3)).await;
    assert!(receive_reset(&mut listener).await.is_some());
}

#[tokio::test]
async fn listener_that_does_not_read_is_disconnected_and_others_receive_all_events() {
    let fixture = TestQueue::new();
    fixture.queue.declare().await.unwrap();
    let feed = feed(&fixture);
    let mut slow = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    let mut other = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    for n in 0..200 {
        fixture.post(with_own_id(&format!("m{n}"), numbered(n))).await;
        assert_eq!(kinds_and_ids(&mut other, 1).await, [format!("enqueued m{n}")]);
    }
    let end = timeout(WAIT_LIMIT, slow.next_events()).await.unwrap();
    assert_eq!(end.unwrap_err().to_string(), "it fell too far behind");
    let mut resumed = feed.listen(&fixture.queue, slow.last()).await.unwrap().unwrap();
    assert_eq!(receive(&mut resumed, 200).await.len(), 200, "the missed events are in the log");
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
        fixture.post(with_own_id("a", numbered(1))).await;
        wait_millis(20).await;
        fixture.queue.erase(&"a".parse().unwrap()).await.unwrap();
    }
    assert_eq!(kinds_and_ids(&mut listener, 4).await, ["enqueued a", "erased a", "enqueued a", "erased a"]);
}

#[tokio::test]
async fn listeners_of_another_process_receive_the_same_events() {
    let fixture = TestQueue::new();
    let mut here = listening(&fixture).await;
    let elsewhere = connect(&fixture.redis, "{}");
    let mut there = EventFeed::new(subscribed(&elsewhere), CancellationToken::new())
        .listen(&elsewhere.queue(&name()), None)
        .await
        .unwrap()
        .unwrap();
    fixture.post_numbers(0..1_000).await;
    let leased = fixture.lease(1_000).await;
    assert_eq!(numbers(&leased).len(), 1_000);
    fixture.settle(&leased.deliveries[0], done()).await;
    let received = receive(&mut here, 2_001).await;
    assert_eq!(received, receive(&mut there, 2_001).await);
    assert!(received.is_sorted_by_key(|(.., id)| *id));
}

#[tokio::test]
async fn listener_ends_when_its_process_stops() {
    let fixture = TestQueue::new();
    fixture.queue.declare().await.unwrap();
    let stopping = CancellationToken::new();
    let subscriber = subscribed(&fixture.queues);
    let feed = EventFeed::new(subscriber, stopping.clone());
    let mut listener = feed.listen(&fixture.queue, None).await.unwrap().unwrap();
    stopping.cancel();
    assert_eq!(listener.next_events().await.unwrap_err().to_string(), "this process stops");
    timeout(WAIT_LIMIT, feed.stopped()).await.expect("the readers of the queue have ended");
}
