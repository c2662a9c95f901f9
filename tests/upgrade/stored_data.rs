//! The test of stored data: the other version reads all data that one version has stored, and finishes the stored messages.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    deployment::{API_COUNT, Deployment},
    versions::{Version, build_both_versions},
};

const QUEUE: &str = "/v1/queues/stored";
/// The ids of the messages of the test.
const IDS: [&str; 11] = [
    "completed",
    "failed",
    "backing-off",
    "active",
    "held",
    "delayed",
    "waiting",
    "urgent",
    "first-of-group",
    "second-of-group",
    "patched",
];

#[tokio::test(flavor = "multi_thread")]
async fn stored_data_of_one_version_is_read_and_finished_by_the_other_version() {
    build_both_versions();
    for (from, to) in [(Version::Before, Version::This), (Version::This, Version::Before)] {
        let mut deployment = Deployment::start(from, "[worker]\nroutes = []\n", 0).await;
        let lease = store_data(&deployment).await;
        let before = read_pages(&deployment).await;
        for index in 0..API_COUNT {
            deployment.replace_api(index, to).await;
        }
        for ((path, before), (_, after)) in before.iter().zip(&read_pages(&deployment).await) {
            assert_answers_agree(before, after, path);
        }
        finish_messages(&deployment, &lease).await;
        deployment.assert_clean().await;
    }
}

async fn post_message(deployment: &Deployment, message: Value) {
    deployment.post(&format!("{QUEUE}/messages"), &message).await;
}

/// Leases the only message that is ready, and returns the lease.
async fn lease(deployment: &Deployment) -> Value {
    let answer = deployment.post(&format!("{QUEUE}/leases"), &json!({"max": 1})).await;
    answer["messages"][0]["lease"].clone()
}

/// Stores messages in every state, settings, a sticky signal and a schedule. Returns the token of the lease of the stored message that is
/// active.
async fn store_data(deployment: &Deployment) -> Value {
    let settings = json!(
        {"max_attempts": 5, "visibility_timeout": "10m", "backoff": {"type": "fixed", "delay": "1h"}, "max_length": 1000,
         "retention": {"failed": {"age": "3d"}}}
    );
    let (status, answer) = deployment.request(Method::PATCH, QUEUE, Some(&settings)).await;
    assert_eq!(status, 200, "{answer}");
    for (id, action, fields) in [
        ("completed", "complete", json!({"result": {"n": 12.50}})),
        ("failed", "fail", json!({"error": {"code": "odd", "message": "is odd"}, "retry": false})),
        ("backing-off", "fail", json!({"error": "no answer"})),
        ("active", "extend", json!({"visibility_timeout": "20m", "progress": {"percent": 40}})),
    ] {
        post_message(deployment, json!({"id": id, "data": {"text": "é\u{1f600}", "id": id}, "headers": {"a": "1"}}))
            .await;
        let mut body = fields;
        body["lease"] = lease(deployment).await;
        deployment.post(&format!("{QUEUE}/leases/{action}"), &body).await;
        if action == "extend" {
            store_unleased(deployment).await;
            return body["lease"].clone();
        }
    }
    unreachable!("the last message stays leased")
}

/// Stores the messages that nobody leases, a sticky signal and a schedule.
async fn store_unleased(deployment: &Deployment) {
    for message in [
        json!({"id": "held", "data": 1, "hold": "paid:42", "delay": "1s"}),
        json!({"id": "delayed", "data": 2, "delay": "1h", "ttl": "2h", "timeout": "5m"}),
        json!({"id": "waiting", "data": 3, "name": "welcome", "max_attempts": 2}),
        json!({"id": "urgent", "data": [4, null], "priority": -5}),
        json!({"id": "first-of-group", "data": 5, "group": "tenant 7"}),
        json!({"id": "second-of-group", "data": 6, "group": "tenant 7"}),
        json!({"id": "patched", "data": 7, "delay": "1h"}),
    ] {
        post_message(deployment, message).await;
    }
    let (status, _) = deployment
        .request(Method::PATCH, &format!("{QUEUE}/messages/patched"), Some(&json!({"data": 8, "priority": 3})))
        .await;
    assert_eq!(status, 200);
    deployment.post(&format!("{QUEUE}/signals/sticky"), &json!({"data": {"amount": 12}, "sticky_for": "1h"})).await;
    let schedule = json!(
        {"cron": "30 9 * * mon-fri", "timezone": "Europe/Berlin", "start_at": "2100-01-01T00:00:00Z", "message": {"data": 9, "name": "report"}}
    );
    let (status, answer) = deployment.request(Method::PUT, &format!("{QUEUE}/schedules/report"), Some(&schedule)).await;
    assert_eq!(status, 201, "{answer}");
    deployment.post_empty(&format!("{QUEUE}/pause")).await;
}

/// Reads the messages, the lists of states, the settings, the signals and the schedules of the queue over HTTP. Returns the path and the
/// answer of each request.
async fn read_pages(deployment: &Deployment) -> Vec<(String, Value)> {
    let lists = ["held", "delayed", "waiting", "active", "completed", "failed"];
    let paths = IDS
        .iter()
        .map(|id| format!("{QUEUE}/messages/{id}"))
        .chain(lists.iter().map(|state| format!("{QUEUE}/messages?state={state}")))
        .chain(["", "/signals", "/schedules"].iter().map(|path| format!("{QUEUE}{path}")));
    let mut pages = Vec::new();
    for path in paths {
        let answer = deployment.get(&path).await;
        pages.push((path, answer));
    }
    pages
}

/// Asserts that two answers agree in all fields that both have: a version may have fields that the other does not know.
fn assert_answers_agree(before: &Value, after: &Value, path: &str) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            // The age of the oldest message grows between two answers, so the ages are not compared.
            for (name, value) in before.iter().filter(|(name, _)| *name != "oldest_waiting_age") {
                if let Some(other) = after.get(name) {
                    assert_answers_agree(value, other, &format!("{path} {name}"));
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{path}");
            for (index, (value, other)) in before.iter().zip(after).enumerate() {
                assert_answers_agree(value, other, &format!("{path} {index}"));
            }
        }
        _ => assert_eq!(before, after, "{path}"),
    }
}

/// Makes all messages ready, and completes them.
async fn finish_messages(deployment: &Deployment, active: &Value) {
    let repeated = deployment.post(&format!("{QUEUE}/messages"), &json!({"id": "completed", "data": 1})).await;
    assert_eq!(repeated["duplicate"], true, "{repeated}");
    let settled_outcome = deployment.post(&format!("{QUEUE}/leases/complete"), &json!({"lease": active})).await;
    assert_eq!(settled_outcome["outcome"], "completed", "{settled_outcome}");
    let released = deployment.post(&format!("{QUEUE}/signals/paid:42"), &json!({})).await;
    assert_eq!(released["released"], 1, "{released}");
    for (id, action) in
        [("delayed", "promote"), ("backing-off", "promote"), ("patched", "promote"), ("failed", "retry")]
    {
        deployment.post_empty(&format!("{QUEUE}/messages/{id}/{action}")).await;
    }
    post_message(deployment, json!({"id": "released", "data": 10, "hold": "sticky"})).await;
    let (status, _) = deployment.request(Method::DELETE, &format!("{QUEUE}/schedules/report"), None).await;
    assert_eq!(status, 204);
    deployment.post_empty(&format!("{QUEUE}/resume")).await;

    let mut order = Vec::new();
    // Two messages of `IDS` are already completed.
    while order.len() < IDS.len() - 1 {
        let leased = deployment.post(&format!("{QUEUE}/leases"), &json!({"max": 100, "wait": "10s"})).await;
        let messages = leased["messages"].as_array().unwrap();
        assert!(!messages.is_empty(), "only the messages {order:?} were leased");
        for message in messages {
            deployment.post(&format!("{QUEUE}/leases/complete"), &json!({"lease": message["lease"]})).await;
            order.push(message["id"].as_str().unwrap().to_owned());
        }
    }
    let position = |id: &str| order.iter().position(|other| other == id).unwrap();
    assert!(position("first-of-group") < position("second-of-group"), "{order:?}");
    assert_eq!(position("urgent"), 0, "{order:?}");
    let status = deployment.finished("stored").await;
    assert_eq!(status["counts"]["completed"], IDS.len() + 1, "{status}");
}
