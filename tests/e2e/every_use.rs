//! Uses each operation of Drover once, over HTTP with running services.

use std::time::Duration;

use drover_tests::Process;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{System, number};

/// Sends a request that must succeed, and returns the JSON of the answer.
async fn send_successfully(system: &System, method: &str, path: &str, body: Value) -> Value {
    let body = (!body.is_null()).then_some(body);
    let (status, answer) = system.request(method.parse().unwrap(), path, body).await;
    assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    answer
}

async fn post_to(system: &System, path: &str, body: Value) -> Value {
    send_successfully(system, "POST", path, body).await
}

/// Posts messages for a worker: with delays, priorities, own ids and idempotency keys, to a queue and to queues of a pattern.
pub(crate) async fn post_for_worker(system: &System) {
    for queue in ["my-queue", "user-1", "user-2"] {
        for message in
            [json!({"data": 1}), json!({"data": 2, "delay": 50, "priority": 1}), json!({"data": 3, "ttl": "1m"})]
        {
            let location = system.post(queue, message).await;
            assert_eq!(system.finished(&location).await["state"], "completed");
        }
    }
    let own = json!({"data": 1, "id": "order-1", "timeout": "1m"});
    for _ in 0..2 {
        post_to(system, "/v1/queues/my-queue/messages", own.clone()).await;
    }
    let request_with_key = system.http.post(system.url("/v1/queues/my-queue/messages")).header("idempotency-key", "k");
    assert_eq!(request_with_key.json(&number(1)).send().await.unwrap().status(), StatusCode::CREATED);
    system.post_batch("my-queue", (0..100).map(number)).await;
    system.finished("/v1/queues/my-queue/messages/order-1").await;
}

/// Leases messages over HTTP, ends leases in each possible way, and listens to the events of the queue.
async fn use_leases(system: &System) {
    system.patch("q", json!({"visibility_timeout": "20s", "max_lapses": 2})).await;
    let mut listener = system.listen(None).await;
    system.post_batch("q", (0..7).map(number)).await;
    let lease_answer = post_to(system, "/v1/queues/q/leases", json!({"max": 7, "wait": "5s", "consumer": "me"})).await;
    let lease = |n: usize| lease_answer["messages"][n]["lease"].clone();
    for (verb, body) in [
        ("extend", json!({"lease": lease(0), "progress": 40})),
        ("complete", json!({"lease": lease(0), "result": 1})),
        ("fail", json!({"lease": lease(1), "retry_after": "1h"})),
        ("fail", json!({"lease": lease(2), "retry": false})),
        ("release", json!({"lease": lease(3)})),
        ("release", json!({"lease": lease(4), "delay": "1h"})),
        ("release", json!({"lease": lease(6), "hold": "c"})),
    ] {
        post_to(system, &format!("/v1/queues/q/leases/{verb}"), body).await;
    }
    let active_message_path = format!("/v1/queues/q/messages/{}", lease_answer["messages"][5]["id"].as_str().unwrap());
    post_to(system, &format!("{active_message_path}/cancel"), Value::Null).await;
    let settlements = json!({"settlements": [{"lease": lease(5), "action": "fail"}]});
    post_to(system, "/v1/queues/q/leases/settle", settlements).await;
    assert_eq!(listener.kinds(7).await, ["enqueued"; 7]);
    assert_eq!(listener.kinds(7).await, ["started"; 7]);
    let mut second_listener = system.listen(Some(&listener.last_event_id)).await;
    assert_eq!(second_listener.kinds(1).await, ["progress"]);
    // The leases of this message lapse until the message fails.
    post_to(system, "/v1/queues/q/purge?state=waiting", Value::Null).await;
    let lapsing_location = system.post("q", number(7)).await;
    for _ in 0..2 {
        let waiting_lease_request = json!({"wait": "20s", "visibility_timeout": 100});
        assert_eq!(post_to(system, "/v1/queues/q/leases", waiting_lease_request).await["messages"][0]["data"], 7);
    }
    assert_eq!(system.finished(&lapsing_location).await["error"]["code"], "lease_lapsed");
}

/// Changes, lists and deletes messages, signals and a queue in each possible way.
async fn manage_messages(system: &System) {
    let location = system.post("q", number(1)).await;
    system.post("q", number(2)).await;
    for (path, body) in [("/v1/queues/q/pause", Value::Null), ("/v1/queues/q/resume", Value::Null)] {
        post_to(system, path, body).await;
    }
    let delayed_message = json!({"delay": "1h", "data": 2, "headers": {"a": "1"}});
    send_successfully(system, "PATCH", &location, delayed_message).await;
    for change in ["promote", "cancel", "retry"] {
        post_to(system, &format!("{location}/{change}"), Value::Null).await;
    }
    let prioritized = json!({"data": 1, "priority": -1, "ttl": "1m"});
    for message in
        [prioritized.clone(), prioritized, json!({"data": 1, "delay": "1h"}), json!({"data": 1, "hold": "a"})]
    {
        system.post("q", message).await;
    }
    for state in ["held", "delayed", "waiting", "active", "completed", "failed"] {
        let first_page_path = format!("/v1/queues/q/messages?limit=1&state={state}");
        let first_page = system.get(&first_page_path).await;
        if let Some(cursor) = first_page["next_cursor"].as_str() {
            send_successfully(system, "GET", &format!("{first_page_path}&cursor={cursor}"), Value::Null).await;
        }
    }
    send_successfully(system, "GET", "/v1/queues/q/messages?hold=a", Value::Null).await;
    send_successfully(system, "DELETE", &location, Value::Null).await;
    for key in ["a", "b"] {
        system.post("q", json!({"data": 1, "hold": key})).await;
        let signal = json!({"data": {"amount": 12}, "sticky_for": "1m"});
        assert!(post_to(system, &format!("/v1/queues/q/signals/{key}"), signal).await["released"].as_u64() > Some(0));
        send_successfully(system, "GET", &format!("/v1/queues/q/signals/{key}"), Value::Null).await;
    }
    send_successfully(system, "GET", "/v1/queues/q/signals?limit=1", Value::Null).await;
    send_successfully(system, "DELETE", "/v1/queues/q/signals/b", Value::Null).await;
    post_to(system, "/v1/queues/q/retry_failed", Value::Null).await;
    for state in ["waiting", "held", "delayed", "completed", "failed"] {
        post_to(system, &format!("/v1/queues/q/purge?state={state}"), Value::Null).await;
    }
    send_successfully(system, "DELETE", "/v1/queues/q?confirm=q", Value::Null).await;
}

/// Leases messages from queues with a rate limit, an owner and a maximum length, and messages too large for one answer.
async fn lease_under_limits(system: &System) {
    let settings = json!({"rate_limit": {"max": 3, "duration": "1h"}, "exclusive": {"parallel": 2}, "max_length": 10,
        "retention": {"completed": {"count": 1, "min_age": 0}}});
    system.patch("limited", settings).await;
    system.post_batch("limited", (0..4).map(number)).await;
    for _ in 0..3 {
        let lease_answer = post_to(system, "/v1/queues/limited/leases", json!({"consumer": "me"})).await;
        let complete = json!({"lease": lease_answer["messages"][0]["lease"]});
        post_to(system, "/v1/queues/limited/leases/complete", complete).await;
    }
    let none_is_left = post_to(system, "/v1/queues/limited/leases", json!({"consumer": "me"})).await;
    assert_eq!(none_is_left["messages"], json!([]));
    // The messages are so large that not all of them fit into one response.
    system.post("large", json!({"data": "x".repeat(50_000)})).await;
    let lease_answer = post_to(system, "/v1/queues/large/leases", json!({"max": 1_000})).await;
    assert_eq!(lease_answer["messages"].as_array().unwrap().len(), 1);
}

/// Creates a schedule that posts messages, and makes every possible change of the schedule.
async fn use_schedules(system: &System) {
    let path = "/v1/queues/scheduled/schedules/often";
    send_successfully(system, "PUT", path, json!({"every": "1s", "overlap": "skip", "message": {"data": 1}})).await;
    while system.get("/v1/queues/scheduled").await["totals"]["scheduled"] == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for change in ["pause", "resume", "run"] {
        post_to(system, &format!("{path}/{change}"), Value::Null).await;
    }
    send_successfully(system, "GET", "/v1/queues/scheduled/schedules", Value::Null).await;
    send_successfully(system, "DELETE", path, Value::Null).await;
}

/// Reads the list of queues, a queue, and the metrics.
async fn read_lists_and_metrics(system: &System) {
    let queues = send_successfully(system, "GET", "/v1/queues", Value::Null).await;
    assert!(queues["queues"].as_array().unwrap().len() >= 4, "{queues}");
    send_successfully(system, "GET", "/v1/queues/my-queue", Value::Null).await;
    assert_eq!(system.metric("drover_queues_readable").await, 1);
}

pub(crate) async fn assert_ready_without_warnings(system: &System, worker: &str) {
    for base in [system.base.as_str(), worker] {
        let answer = system.http.get(format!("{base}/readyz")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!((&answer["status"], &answer["warnings"]), (&json!("ready"), &Value::Null), "{answer}");
    }
}

/// Reads a message while a purge of the message is unfinished.
pub(crate) async fn read_during_purge(system: &System) {
    let location = system.post("purged", number(1)).await;
    let id = location.rsplit('/').next().unwrap();
    system.redis.command(&format!("HSET drover:{{purged}}:meta purged_to {id}"));
    let (status, _) = system.request(Method::GET, &location, None).await;
    assert_eq!(status, 404);
}

/// Makes a lease call whose answer is lost, because Redis hangs. The next lease call looks for the leases of the lost call.
pub(crate) async fn lose_lease_answer(system: &System) {
    system.redis.suspend();
    let (status, problem) = system.request(Method::POST, "/v1/queues/my-queue/leases", Some(json!({}))).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    system.redis.resume();
    system.wait_until_ready(&system.base).await;
    post_to(system, "/v1/queues/my-queue/leases", json!({})).await;
}

/// Starts a worker, uses each operation of Drover, and returns the worker.
pub(crate) async fn use_everything(system: &System) -> Process {
    let (worker, worker_url) = system.worker_and_url(&[]).await;
    post_for_worker(system).await;
    use_leases(system).await;
    manage_messages(system).await;
    lease_under_limits(system).await;
    use_schedules(system).await;
    read_lists_and_metrics(system).await;
    assert_ready_without_warnings(system, &worker_url).await;
    worker
}
