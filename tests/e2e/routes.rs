//! Tests of messages that no route of the worker matches.

use serde_json::json;

use crate::{System, millis};

#[tokio::test]
async fn message_without_a_route_fails_after_its_retries_and_is_logged_once() {
    let config = r#"
        [[worker.routes]]
        queue = "jobs"
        name = "known"
        handler = { type = "log" }
        [queues.jobs]
        max_attempts = 2
        backoff = { type = "fixed", delay = 10 }
    "#;
    let system = System::start(config).await;
    let worker = system.worker().await;
    let mut posted_messages = Vec::new();
    for _ in 0..5 {
        posted_messages.push(system.post("jobs", json!({"data": 1, "name": "unknown"})).await);
    }
    for location in &posted_messages {
        let message = system.finished(location).await;
        assert_eq!((&message["state"], &message["attempts_made"]), (&json!("failed"), &json!(2)));
        assert_eq!(message["error"]["code"], "no_handler");
        assert!(millis(&message["finished_at"]) >= millis(&message["created_at"]) + 8);
    }
    let known_message = system.finished(&system.post("jobs", json!({"data": 1, "name": "known"})).await).await;
    assert_eq!((&known_message["state"], &known_message["result"]), (&json!("completed"), &json!(null)));
    let report_count = worker.log().iter().filter(|line| line.contains("no route takes")).count();
    assert_eq!(report_count, 1, "{:?}", worker.log());
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn message_without_a_name_and_without_a_route_is_reported_as_unnamed() {
    let config = "[[worker.routes]]\nqueue = \"q\"\nname = \"known\"\nhandler = { type = \"log\" }\n\
                  [queues.q]\nmax_attempts = 1\n";
    let system = System::start(config).await;
    let worker = system.worker().await;
    let message = system.finished(&system.post("q", json!({"data": 1})).await).await;
    assert!(message["error"]["message"].as_str().unwrap().contains("messages without a name"), "{message}");
    let line = worker.wait_for_log("no route takes messages without a name");
    assert!(!line.contains("name=\"\""), "{line}");
}
