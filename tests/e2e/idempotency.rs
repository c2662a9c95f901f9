//! Tests of `Idempotency-Key`: a repeated POST stores nothing new, and its response is the current message.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{System, completed};

const SINGLE_POST_PATH: &str = "/v1/queues/q/messages";
const BATCH_PATH: &str = "/v1/queues/q/messages/batch";

async fn send_post(system: &System, path: &str, key: &str, body: &str) -> (u16, Value) {
    let request = system.http.post(system.url(path)).header("content-type", "application/json");
    let answer = request.header("idempotency-key", key).body(body.to_owned()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn repeated_request_with_the_same_idempotency_key_stores_one_message() {
    let system = System::start("").await;
    let (status, first) = send_post(&system, SINGLE_POST_PATH, "key-1", r#"{"data": 1}"#).await;
    assert_eq!((status, first.get("duplicate")), (201, None));
    for key in ["key-1", "\"key-1\""] {
        let (status, again) = send_post(&system, SINGLE_POST_PATH, key, r#"{"data": 1}"#).await;
        assert_eq!((status, &again["id"], &again["duplicate"]), (200, &first["id"], &json!(true)), "{key}");
    }
    let (status, problem) = send_post(&system, SINGLE_POST_PATH, "key-1", r#"{"data": 2}"#).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")));
    let (status, problem) = send_post(&system, BATCH_PATH, "key-1", r#"{"messages": [{"data": 1}]}"#).await;
    assert_eq!((status, &problem["code"]), (422, &json!("idempotency_key_reused")));
    let (status, other) = send_post(&system, SINGLE_POST_PATH, "key-2", r#"{"data": 1}"#).await;
    assert_eq!(status, 201);
    assert_ne!(other["id"], first["id"]);
    assert_eq!(
        send_post(&system, "/v1/queues/other/messages", "key-1", r#"{"data": 2}"#).await.0,
        201,
        "another queue has its own keys"
    );
    assert_eq!(system.get("/v1/queues/q").await["totals"]["enqueued"], 2);
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_message_as_it_is_now() {
    let system = System::start("").await;
    let (_, first) = send_post(&system, SINGLE_POST_PATH, "k", r#"{"data": 1}"#).await;
    system.settle_all("q", completed()).await;
    let (status, again) = send_post(&system, SINGLE_POST_PATH, "k", r#"{"data": 1}"#).await;
    assert_eq!((status, &again["state"], &again["result"]), (200, &json!("completed"), &json!("done")));
    let location = format!("{SINGLE_POST_PATH}/{}", first["id"].as_str().unwrap());
    assert_eq!(system.request(Method::DELETE, &location, None).await.0, 204);
    let (status, again) = send_post(&system, SINGLE_POST_PATH, "k", r#"{"data": 1}"#).await;
    let erased_message = json!({"id": first["id"], "queue": "q", "state": null, "duplicate": true});
    assert_eq!((status, again), (200, erased_message));
    let answer_after_wait = send_post(&system, &format!("{SINGLE_POST_PATH}?wait=20s"), "k", r#"{"data": 1}"#).await;
    assert_eq!(answer_after_wait.0, 200, "the request must not wait for an erased message");
    system.assert_clean().await;
}

#[tokio::test]
async fn batch_with_an_idempotency_key_is_stored_once() {
    let system = System::start("").await;
    let body = r#"{"messages": [{"data": 1}, {"data": 2, "id": "mine"}, {"data": 3}]}"#;
    let (status, first) = send_post(&system, BATCH_PATH, "k", body).await;
    assert_eq!(status, 201);
    let (status, again) = send_post(&system, BATCH_PATH, "\"k\"", body).await;
    assert_eq!(status, 200);
    for (one, other) in first["messages"].as_array().unwrap().iter().zip(again["messages"].as_array().unwrap()) {
        assert_eq!(one["id"], other["id"]);
        assert_eq!((&one["duplicate"], &other["duplicate"]), (&json!(false), &json!(true)));
    }
    assert_eq!(system.get("/v1/queues/q").await["counts"]["waiting"], 3);
    // In a batch without an Idempotency-Key, a message whose own id the queue already has is a duplicate.
    let (status, _) =
        system.request(Method::POST, BATCH_PATH, Some(json!({"messages": [{"data": 2, "id": "mine"}]}))).await;
    assert_eq!(status, 200, "the batch has no new message");
    let partly_new_batch = json!({"messages": [{"data": 2, "id": "mine"}, {"data": 4}]});
    assert_eq!(system.request(Method::POST, BATCH_PATH, Some(partly_new_batch)).await.0, 201);
    system.assert_clean().await;
}

#[tokio::test]
async fn invalid_idempotency_key_is_refused_and_nothing_is_stored() {
    let system = System::start("").await;
    for key in ["", "a b", "\"a", "\"a\";x=1", "\"\"", &"x".repeat(256), "schl\u{fc}ssel"] {
        for (path, body) in [(SINGLE_POST_PATH, r#"{"data": 1}"#), (BATCH_PATH, r#"{"messages": [{"data": 1}]}"#)] {
            let (status, problem) = send_post(&system, path, key, body).await;
            assert_eq!((status, &problem["code"]), (400, &json!("invalid_idempotency_key")), "{key}: {problem}");
        }
    }
    let request = system.http.post(system.url(SINGLE_POST_PATH)).header("content-type", "application/json");
    let request_with_two_keys =
        request.header("idempotency-key", "a").header("idempotency-key", "b").body(r#"{"data": 1}"#);
    assert_eq!(request_with_two_keys.send().await.unwrap().status(), 400);
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]));
}
