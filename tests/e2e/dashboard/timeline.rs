//! The timeline of a message whose attempts failed.

use reqwest::Method;
use serde_json::{Value, json};

use super::browse;
use crate::System;

/// Leases the next message of the queue, and fails the attempt with this error; another attempt follows at once.
async fn fail_attempt(system: &System, queue: &str, error: &str) {
    let lease = json!({"wait": "30s"});
    let leased: Value = system.send_to(&format!("/v1/queues/{queue}/leases"), &lease).await.json().await.unwrap();
    let failure = json!({
        "lease": leased["messages"][0]["lease"], "error": {"code": "broken", "message": error}, "retry_after": 1,
    });
    assert_eq!(system.send_to(&format!("/v1/queues/{queue}/leases/fail"), &failure).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn timeline_tells_each_failure_with_its_error() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "id": "early", "max_attempts": 9})).await;
    for error in ["error one", "error two"] {
        fail_attempt(&system, "q", error).await;
    }
    let lease = json!({"wait": "30s", "visibility_timeout": 100});
    let leased: Value = system.send_to("/v1/queues/q/leases", &lease).await.json().await.unwrap();
    assert_eq!(leased["messages"][0]["id"], "early");
    fail_attempt(&system, "q", "error three").await;
    let message = system.get("/v1/queues/q/messages/early").await;
    let earlier_texts: Vec<&str> =
        message["earlier_errors"].as_array().unwrap().iter().map(|error| error["message"].as_str().unwrap()).collect();
    assert_eq!(earlier_texts, ["error one", "error two", "the lease lapsed"]);
    // A tab that has heard no event of the queue shows the stored errors.
    let browser = browse(&system, "/queues/q/message/early").await;
    for text in ["Attempt 1 failed", "error one", "error two", "The lease lapsed", "Attempt 3 failed", "error three"] {
        browser.see(text).await;
    }
    fail_attempt(&system, "q", "error four").await;
    browser.see("error four").await;
    assert_eq!(browser.count(".timeline .retried, .timeline .lapsed").await, 5, "an event doubles no stored error");

    // Drover stores the last errors only, and the timeline says so.
    fail_attempt(&system, "q", "error five").await;
    fail_attempt(&system, "q", "error six").await;
    browser.open(&system.url("/dashboard?again#/queues/q/message/early")).await;
    for text in ["Attempts 1 to 2 failed", "Drover keeps the last errors only.", "error six"] {
        browser.see(text).await;
    }

    // From the first event that a tab hears, Drover keeps the queue's events for the tab.
    browser.click("a", "q").await;
    browser.click("a", "Events").await;
    browser.see("Live").await;
    fail_attempt(&system, "q", "error of the live tail").await;
    browser.see("error of the live tail").await;
    browser.click("a", "Messages").await;
    browser.see("Find").await;
    assert_eq!(system.request(Method::DELETE, "/v1/queues/q/messages/early", None).await.0, 204);
    system.post("q", json!({"data": 1, "id": "late", "max_attempts": 9})).await;
    for error in ["error five", "error six", "error seven"] {
        fail_attempt(&system, "q", error).await;
    }
    browser.click("a", "late").await;
    for text in ["Attempt 1 failed, another follows", "error five", "error six", "error seven"] {
        browser.see(text).await;
    }
    browser.see_no("Drover keeps the last errors only.").await;
    // A retry on request is no failed attempt.
    system.wait_for_state("/v1/queues/q/messages/late", "waiting").await;
    assert_eq!(system.settle_all("q", crate::failed()).await, 1);
    browser.see("it broke").await;
    browser.click("button", "Retry late").await;
    browser.see("Made ready again").await;
    assert_eq!(
        browser.count(".timeline .retried, .timeline .failed").await,
        5,
        "the failure before the retry is told once"
    );
}
