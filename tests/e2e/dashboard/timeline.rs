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
async fn timeline_tells_each_retry_with_its_error_since_the_tab_listens_to_the_queue() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "id": "early", "max_attempts": 9})).await;
    for error in ["error one", "error two", "error three"] {
        fail_attempt(&system, "q", error).await;
    }
    // Nothing tells the errors before the last one, and the timeline says so.
    let browser = browse(&system, "/queues/q/message/early").await;
    browser.see("Attempts 1 to 2 failed").await;
    browser.see("Drover keeps the last error only.").await;
    browser.see("error three").await;
    fail_attempt(&system, "q", "error four").await;
    browser.see("error four").await;
    browser.see("error three").await;

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
    browser.see_no("Drover keeps the last error only.").await;
    // A retry on request is no failed attempt.
    system.wait_for_state("/v1/queues/q/messages/late", "waiting").await;
    assert_eq!(system.settle_all("q", crate::failed()).await, 1);
    browser.see("it broke").await;
    browser.click("button", "Retry late").await;
    browser.see("Made ready again").await;
}
