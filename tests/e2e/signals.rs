use reqwest::Method;
use serde_json::{Value, json};

use crate::System;

#[tokio::test]
async fn a_signal_releases_what_is_held_for_its_key() {
    let system = System::start("").await;
    let early = system.act("/v1/queues/q/signals/paid:42").await;
    assert_eq!(early, (200, json!({"released": 0})), "there is no queue yet, and none begins");
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]));
    let first = system.post("q", json!({"data": 1, "hold": "paid:42"})).await;
    let later = system.post("q", json!({"data": 2, "hold": "paid:42", "delay": "1h"})).await;
    let other = system.post("q", json!({"data": 3, "hold": "paid:43"})).await;
    let signal = json!({"data": {"amount": [1, 2]}});
    let (status, answer) = system.ask(Method::POST, "/v1/queues/q/signals/paid:42", Some(signal)).await;
    assert_eq!((status, answer), (200, json!({"released": 2})));
    let message = system.get(&first).await;
    assert_eq!((&message["state"], &message["signal"]), (&json!("waiting"), &json!({"amount": [1, 2]})));
    assert_eq!(system.get(&later).await["state"], "delayed");
    assert_eq!(system.get(&other).await["state"], "held");
    assert_eq!(system.act("/v1/queues/q/signals/paid:42").await, (200, json!({"released": 0})));
    // Neither a body nor a content type is needed; an empty body is none, whatever it says it is.
    let request = system.http.post(system.url("/v1/queues/q/signals/paid%3A43")).header("content-type", "text/plain");
    assert_eq!(request.send().await.unwrap().json::<Value>().await.unwrap(), json!({"released": 1}));
    system.assert_clean().await;
}

#[tokio::test]
async fn a_signal_that_sticks_lets_pass_what_comes_after_it() {
    let system = System::start("").await;
    let signal = json!({"data": "ready", "sticky_for": "30d"});
    let (status, answer) = system.ask(Method::POST, "/v1/queues/q/signals/k", Some(signal)).await;
    assert_eq!((status, answer), (200, json!({"released": 0})), "it may come before the queue's first message");
    let message = system.get(&system.post("q", json!({"data": 1, "hold": "k"})).await).await;
    assert_eq!((&message["state"], &message["signal"]), (&json!("waiting"), &json!("ready")));
    system.assert_clean().await;
}

#[tokio::test]
async fn a_signal_that_can_not_be_is_refused() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "hold": "k"})).await;
    let long = json!({"data": "x".repeat(4_095)});
    for (body, pointer, told) in [
        (long, "/data", "at most 4096 bytes"),
        (json!({"sticky_for": 0}), "/sticky_for", "1ms to 30d"),
        (json!({"sticky_for": "31d"}), "/sticky_for", "1ms to 30d"),
        (json!({"stick": 1}), "/stick", "did you mean \"sticky_for\"?"),
    ] {
        let (status, problem) = system.ask(Method::POST, "/v1/queues/q/signals/k", Some(body)).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_signal")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(told), "{problem}");
    }
    for key in ["a%2Fb", "%01", "%ff", &"x".repeat(257)] {
        let (status, problem) = system.act(&format!("/v1/queues/q/signals/{key}")).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_signal_key")), "{key}");
    }
    assert_eq!(system.get("/v1/queues/q").await["counts"]["held"], 1, "nothing was released");
}
