use queue_core::{Action, Extended, Failure, Settlement};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{System, completed, failed};

/// A message in each state, by the word for it; the active one is leased.
async fn one_of_each() -> System {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "id": "completed"})).await;
    system.settle_all("q", completed()).await;
    system.post("q", json!({"data": 1, "id": "failed"})).await;
    system.settle_all("q", failed()).await;
    system.post("q", json!({"data": 1, "id": "active"})).await;
    assert_eq!(system.lease("q", 1).await.len(), 1);
    system.post("q", json!({"data": 1, "id": "held", "hold": "k"})).await;
    system.post("q", json!({"data": 1, "id": "delayed", "delay": "1h"})).await;
    system.post("q", json!({"data": 1, "id": "waiting"})).await;
    system
}

fn path(id: &str) -> String {
    format!("/v1/queues/q/messages/{id}")
}

fn told(problem: &Value) -> &str {
    problem["detail"].as_str().unwrap()
}

#[tokio::test]
async fn what_a_state_forbids_is_refused_with_the_state_and_the_way_out() {
    let system = one_of_each().await;
    for (id, operation, way_out) in [
        ("completed", "cancel", "its result stays"),
        ("failed", "cancel", "DELETE /v1/queues/q/messages/failed"),
        ("held", "retry", "/v1/queues/q/signals/"),
        ("delayed", "retry", "POST /v1/queues/q/messages/delayed/promote"),
        ("waiting", "retry", "handed out without that"),
        ("active", "retry", "GET /v1/queues/q/messages/active?wait=20s"),
        ("completed", "retry", "erase this one, DELETE /v1/queues/q/messages/completed, and post it again"),
        ("held", "promote", "/v1/queues/q/signals/"),
        ("waiting", "promote", "handed out without that"),
        ("active", "promote", "GET /v1/queues/q/messages/active?wait=20s"),
        ("completed", "promote", "post it as a new message with another id"),
        ("failed", "promote", "POST /v1/queues/q/messages/failed/retry"),
    ] {
        let (status, problem) = system.act(&format!("{}/{operation}", path(id))).await;
        assert_eq!((status, &problem["code"]), (409, &json!(format!("message_{id}"))), "{operation}: {problem}");
        assert!(told(&problem).contains(&format!("message {id} is {id}, and only")), "{problem}");
        assert!(told(&problem).contains(way_out), "{problem}");
        assert_eq!(system.get(&path(id)).await["state"], id, "nothing was changed");
    }
    let (status, problem) = system.ask(Method::DELETE, &path("active"), None).await;
    assert_eq!((status, &problem["code"]), (409, &json!("message_active")));
    assert!(told(&problem).contains("POST /v1/queues/q/messages/active/cancel"), "{problem}");
    for id in ["unknown", "21718923400017"] {
        for (method, end) in
            [(Method::POST, "/cancel"), (Method::POST, "/retry"), (Method::POST, "/promote"), (Method::DELETE, "")]
        {
            let (status, problem) = system.ask(method, &format!("{}{end}", path(id)), None).await;
            assert_eq!((status, &problem["code"]), (404, &json!("message_not_found")), "{end}");
        }
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn the_way_out_for_a_completed_message_does_its_work_once_more() {
    let system = System::start("").await;
    for id in [Some("own"), None] {
        let message = json!({"data": 1, "id": id});
        let location = system.post("q", message.clone()).await;
        assert_eq!(system.settle_all("q", completed()).await, 1);
        let (status, problem) = system.act(&format!("{location}/retry")).await;
        assert_eq!(status, 409);
        if told(&problem).contains("another id, or erase this one") {
            assert_eq!(system.send("q", &message).await.status(), 200, "posted again as it is, it is a duplicate");
            system.post("q", json!({"data": 1, "id": "another"})).await;
            assert_eq!(system.settle_all("q", completed()).await, 1);
            assert_eq!(system.ask(Method::DELETE, &location, None).await.0, 204);
        } else {
            assert!(id.is_none() && told(&problem).contains("post its data as a new message"), "{problem}");
        }
        system.post("q", message).await;
        assert_eq!(system.settle_all("q", completed()).await, 1, "{problem}");
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn a_message_is_erased_with_all_that_belongs_to_it() {
    let system = one_of_each().await;
    for id in ["held", "delayed", "waiting", "completed", "failed"] {
        assert_eq!(system.ask(Method::DELETE, &path(id), None).await, (204, Value::Null), "{id}");
        assert_eq!(system.ask(Method::GET, &path(id), None).await.0, 404);
        assert_eq!(system.ask(Method::DELETE, &path(id), None).await.0, 404, "once");
        system.post("q", json!({"data": 2, "id": id})).await;
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn a_message_that_has_not_started_is_cancelled_at_once() {
    let system = one_of_each().await;
    for id in ["held", "delayed", "waiting"] {
        for _ in 0..2 {
            let (status, message) = system.act(&format!("{}/cancel", path(id))).await;
            assert_eq!((status, &message["state"]), (200, &json!("failed")), "{id}: cancelled, or cancelled already");
            assert_eq!(message["error"]["code"], "cancelled");
        }
    }
    assert_eq!(system.lease("q", 10).await.len(), 0);
    assert_eq!(system.get("/v1/queues/q").await["totals"]["cancelled"], 3);
    system.patch("q", json!({"retention": {"failed": {"count": 0}}})).await;
    system.post("q", json!({"data": 1, "id": "not-kept"})).await;
    let (status, answer) = system.act(&format!("{}/cancel", path("not-kept"))).await;
    assert_eq!((status, answer), (200, json!({"id": "not-kept", "queue": "q", "state": null})));
    system.assert_clean().await;
}

#[tokio::test]
async fn the_consumer_of_an_active_message_is_told_to_stop() {
    let system = System::start("").await;
    let location = system.post("q", json!({"data": 1})).await;
    let delivery = system.lease("q", 1).await.remove(0);
    for _ in 0..2 {
        let (status, message) = system.act(&format!("{location}/cancel")).await;
        assert_eq!((status, &message["state"]), (202, &json!("active")));
    }
    let queue = system.queues().queue(&"q".parse().unwrap());
    let extended = queue.extend(std::slice::from_ref(&delivery.lease), None).await.unwrap();
    assert!(matches!(extended[0], Extended::ToBeCancelled(_)));
    let action = Action::Fail(Failure::new("stopped", "told to stop"));
    queue.settle(&[Settlement { lease: delivery.lease, action }]).await.unwrap();
    let message = system.get(&location).await;
    assert_eq!((&message["state"], &message["error"]["code"]), (&json!("failed"), &json!("cancelled")));
    system.assert_clean().await;
}

#[tokio::test]
async fn a_failed_message_is_retried_and_a_delayed_one_promoted() {
    let system = one_of_each().await;
    let (status, message) = system.act(&format!("{}/retry", path("failed"))).await;
    assert_eq!((status, &message["state"]), (200, &json!("waiting")));
    assert_eq!((&message["attempts_made"], &message["error"]["code"]), (&json!(0), &json!("broken")));
    let (status, message) = system.act(&format!("{}/promote", path("delayed"))).await;
    assert_eq!((status, &message["state"]), (200, &json!("waiting")));
    assert_eq!(system.settle_all("q", completed()).await, 3);
    assert_eq!(system.get(&path("failed")).await["state"], "completed");
    system.assert_clean().await;
}
