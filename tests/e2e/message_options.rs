//! Tests of the options of a message and of a POST: timeout, ttl, hold key, a wait for the result, and the queue's
//! `max_length`.

use drover_tests::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{System, completed, millis, number};

#[tokio::test]
async fn message_may_have_a_timeout_a_ttl_and_a_hold_key() {
    let system = System::start("").await;
    let location = system.post("q", json!({"data": 1, "timeout": "5s", "ttl": "1h"})).await;
    let message = system.get(&location).await;
    assert_eq!(millis(&message["expires_at"]) - millis(&message["created_at"]), 3_600_000);
    let delivery = system.lease("q", 1).await.remove(0);
    assert_eq!(delivery.timeout.unwrap().get(), 5_000);

    let post_answer = system.send("q", &json!({"data": 1, "hold": "paid:42"})).await;
    assert_eq!(post_answer.status(), StatusCode::CREATED);
    let held_message: Value = post_answer.json().await.unwrap();
    assert_eq!((&held_message["state"], &held_message["hold"]), (&json!("held"), &json!("paid:42")));

    let batch = json!({"messages": [{"data": 1, "ttl": 1}, {"data": 2, "hold": "k", "timeout": "7d"}]});
    let (status, answer) = system.request(Method::POST, "/v1/queues/q/messages/batch", Some(batch)).await;
    assert_eq!((status, &answer["messages"][1]["state"]), (201, &json!("held")));
    let expired_message = format!("/v1/queues/q/messages/{}", answer["messages"][0]["id"].as_str().unwrap());
    while system.get(&expired_message).await["state"] != "failed" {
        system.lease("q", 1).await;
    }
    assert_eq!(system.get(&expired_message).await["error"]["code"], "expired");
    system.assert_clean().await;
}

#[tokio::test]
async fn queue_stores_no_more_messages_than_its_max_length() {
    let system = System::start("").await;
    system.patch("q", json!({"max_length": 2})).await;
    system.post("q", number(1)).await;
    let two = json!({"messages": [{"data": 1}, {"data": 2}]});
    let (status, problem) = system.request(Method::POST, "/v1/queues/q/messages/batch", Some(two)).await;
    assert_eq!((status, &problem["code"]), (429, &json!("queue_full")));
    system.post("q", number(2)).await;
    let refusal = system.send("q", &number(3)).await;
    assert_eq!(refusal.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refusal.headers()["retry-after"], "1");
    let problem: Value = refusal.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("max_length of 2"), "{problem}");
    assert_eq!(system.get("/v1/queues/q").await["counts"]["waiting"], 2, "nothing more was stored");
    system.settle_all("q", completed()).await;
    system.post("q", number(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_for_a_message_that_is_not_kept_is_answered_with_a_null_state() {
    let system = System::start("").await;
    system.patch("q", json!({"retention": {"completed": {"count": 0}}})).await;
    let waiting_request = {
        let request = system.http.post(system.url("/v1/queues/q/messages?wait=20s"));
        let request = request.json(&json!({"data": 1, "id": "mine"}));
        tokio::spawn(request.send())
    };
    while system.settle_all("q", completed()).await == 0 {
        tokio::task::yield_now().await;
    }
    let answer = waiting_request.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED, "the message was stored");
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"id": "mine", "queue": "q", "state": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn post_with_a_wait_is_answered_as_stored_when_redis_fails_during_the_wait() {
    let mut system = System::start("").await;
    let request = system.http.post(system.url("/v1/queues/q/messages?wait=1500ms")).json(&number(1));
    let waiting_request = tokio::spawn(request.send());
    eventually("the message is stored and a client waits for it", || {
        system.redis.command("EXISTS drover:{q}:awaited").contains(":1").then_some(())
    });
    system.redis.kill();
    let answer = waiting_request.await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.json::<Value>().await.unwrap()["state"], "waiting");
}

#[tokio::test]
async fn message_id_may_equal_a_segment_of_a_path() {
    let system = System::start("").await;
    for id in ["cancel", "messages"] {
        let location = system.post("q", json!({"data": id, "id": id, "delay": "1h"})).await;
        assert_eq!(location, format!("/v1/queues/q/messages/{id}"));
        assert_eq!(system.get(&location).await["data"], id);
        let (status, message) = system.post_empty(&format!("{location}/promote")).await;
        assert_eq!((status, &message["state"]), (200, &json!("waiting")));
        assert_eq!(system.request(Method::DELETE, &location, None).await.0, 204);
    }
    system.assert_clean().await;
}
