//! Tests of event streams: order, reconnection, resets and outages of Redis.

use std::collections::BTreeMap;

use drover_tests::eventually;
use queue_core::Action;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{System, event_listener::ids, number};

#[tokio::test]
async fn client_receives_each_event_of_each_message_in_order_while_workers_are_busy() {
    let system = System::start("[[worker.routes]]\nqueue = \"q\"\nhandler = { type = \"log\" }").await;
    system.create_queue("q").await;
    let mut client = system.listen(None).await;
    let _workers = (system.worker().await, system.worker().await);
    let post_task = async {
        for batch in 0..20 {
            system.post_ids(&ids(batch, 100)).await;
        }
    };
    let receiving = async {
        let mut events_by_message: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for _ in 0..6_000 {
            let event = client.event().await;
            events_by_message.entry(event.message().to_owned()).or_default().push(event.kind);
        }
        events_by_message
    };
    let ((), events_by_message) = tokio::join!(post_task, receiving);
    assert_eq!(events_by_message.len(), 2_000);
    for (message, events_by_message) in &events_by_message {
        assert_eq!(events_by_message, &["enqueued", "started", "completed"], "{message}");
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn reconnecting_client_receives_each_event_exactly_once() {
    let mut system = System::start("").await;
    system.create_queue("q").await;
    let mut client = system.listen(None).await;
    let mut received_messages = Vec::new();
    for batch in 0..30 {
        system.post_ids(&ids(batch, 1 + batch % 13)).await;
        // The client disconnects before the first event of a batch, or in the middle of the batch.
        for _ in 0..batch % 5 {
            received_messages.push(client.event().await.message().to_owned());
        }
        if batch == 20 {
            // During the test, the API restarts once.
            system.api.kill();
            system.relaunch_api();
            system.wait_until_ready(&system.base).await;
        }
        let last_event_id = client.last_event_id.clone();
        client = system.listen(Some(&last_event_id)).await;
    }
    let expected: Vec<String> = (0..30).flat_map(|batch| ids(batch, 1 + batch % 13)).collect();
    while received_messages.len() < expected.len() {
        received_messages.push(client.event().await.message().to_owned());
    }
    assert_eq!(received_messages, expected);
}

#[tokio::test]
async fn events_of_one_message_are_selected_by_its_id_or_own_id_even_before_it_is_posted() {
    let system = System::start("").await;
    system.create_queue("q").await;
    let mut listener_by_own_id = system.listen_to("/v1/queues/q/events?message=order-42", None).await;
    system.post("q", number(1)).await;
    system.post("q", json!({"data": 1, "id": "order-42", "name": "welcome", "priority": -1, "delay": "1h"})).await;
    let enqueued_event = listener_by_own_id.event().await;
    assert_eq!((enqueued_event.kind.as_str(), &enqueued_event.data["name"]), ("enqueued", &json!("welcome")));
    assert_eq!(enqueued_event.data["state"], "delayed");
    let message = system.queues().queue(&"q".parse().unwrap()).list("delayed".parse().unwrap(), 1, None).await.unwrap();
    assert_eq!(enqueued_event.data["due_at"], json!(message.messages[0].due_at));

    let location = system.post("q", number(2)).await;
    let id = location.rsplit('/').next().unwrap();
    let mut listener_by_issued_id = system.listen_to(&format!("/v1/queues/q/events?message={id}"), None).await;
    system.post_empty("/v1/queues/q/messages/order-42/promote").await;
    system.settle_all("q", Action::Release(None)).await;
    assert_eq!(listener_by_own_id.kinds(3).await, ["promoted", "started", "released"]);
    assert_eq!(listener_by_issued_id.kinds(2).await, ["started", "released"]);
    for (query, status, code) in [
        ("?message=", 422, "invalid_id"),
        ("?message=a/b", 422, "invalid_id"),
        ("?mesage=a", 400, "invalid_query"),
        ("?message=a&message=b", 400, "invalid_query"),
    ] {
        let (found, problem) = system.request(Method::GET, &format!("/v1/queues/q/events{query}"), None).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{query}");
    }
}

#[tokio::test]
async fn client_that_resumes_after_a_lost_event_receives_a_reset_and_a_bad_event_id_is_refused() {
    let system = System::start("").await;
    let (deletion_status, problem) = system.request(Method::GET, "/v1/queues/q/events", None).await;
    assert_eq!((deletion_status, &problem["code"]), (404, &json!("queue_not_found")));
    assert!(system.redis.command("EXISTS drover:{q}:meta").contains(":0"), "a listener does not create a queue");

    system.create_queue("q").await;
    let mut client = system.listen(None).await;
    system.post("q", number(1)).await;
    let posted_event = client.event().await;
    assert_eq!(posted_event.kind, "enqueued");
    let deletion_status = system.request(Method::DELETE, "/v1/queues/q?confirm=q", None).await.0;
    assert_eq!(deletion_status, 204);
    let reset_event = client.event().await;
    assert_eq!((reset_event.kind.as_str(), reset_event.id.as_str()), ("reset", ""));
    // After the queue is deleted, the stream continues with the events of a new queue of the same name.
    system.create_queue("q").await;
    let reset_event = client.event().await;
    assert_eq!(reset_event.kind, "reset");
    system.post("q", json!({"data": 1, "id": "new"})).await;
    assert_eq!(client.event().await.message(), "new");
    let mut resumed_listener = system.listen(Some(&posted_event.id)).await;
    assert_eq!(resumed_listener.event().await.kind, "reset");
    let mut resumed_listener = system.listen(Some(&reset_event.id)).await;
    assert_eq!(resumed_listener.event().await.message(), "new", "a client can resume at the id of a reset");
    system.redis.command("FLUSHALL");
    assert_eq!(client.event().await.kind, "reset");

    system.create_queue("q").await;
    for bad_id in ["x", "1", "-1-1-1", "1-2-3-4", "99999999999999999999-1-1", "1-1-\u{661}", "1-1795424400000-1 x"] {
        let refusal = system.request_events("/v1/queues/q/events", Some(bad_id)).await;
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST, "{bad_id}");
        let problem: Value = refusal.json().await.unwrap();
        assert_eq!(problem["code"], "invalid_last_event_id", "{bad_id}");
    }
    let mut resumed_listener = system.listen(Some("999999999999999-999999999999999-999999999999999")).await;
    assert_eq!(resumed_listener.event().await.kind, "reset");
}

#[tokio::test]
async fn event_streams_continue_without_a_gap_after_an_outage_of_redis() {
    let mut system = System::start_on(drover_tests::RedisServer::start_durable(), "").await;
    system.create_queue("q").await;
    let mut client = system.listen(None).await;
    system.post("q", json!({"data": 1, "id": "before"})).await;
    assert_eq!(client.event().await.message(), "before");
    system.redis.kill();
    let refusal = system.request_events("/v1/queues/q/events", None).await;
    assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
    system.redis.restart();
    system.wait_until_ready(&system.base).await;
    system.post("q", json!({"data": 1, "id": "after"})).await;
    assert_eq!(client.event().await.message(), "after");
    // The API logs the outage once, or not at all if Redis was back before the API's next read of the events. The API logs the end of the
    // outage of Redis only after the client has received the first event after it, so the test waits for the log line.
    let logged_count = |text: &str| system.api.log().iter().filter(|line| line.contains(text)).count();
    let outage_count = logged_count("events can't be read, trying again");
    assert!(outage_count <= 1);
    eventually("the end of the outage is logged", || {
        (logged_count("events can be read again") == outage_count).then_some(())
    });
}
