//! The dashboard while the API or Redis is away.

use std::process::Command;

use serde_json::json;

use super::browse;
use crate::System;

#[tokio::test(flavor = "multi_thread")]
async fn page_says_that_the_api_is_away_and_recovers_by_itself() {
    let mut system = System::start("").await;
    system.post("q", json!({"data": 1, "id": "before"})).await;
    let browser = browse(&system, "/queues/q").await;
    browser.see("before").await;
    system.api.kill();
    browser.see("The API does not answer.").await;
    // While the API is down, the dashboard still shows what it has read before. An action reports that it has failed.
    browser.click("button", "Cancel before").await;
    browser.wait_for("the report", "document.querySelector('.toast.error')", json!([])).await;
    system.relaunch_api();
    system.wait_until_ready(&system.base).await;
    system.post("q", json!({"data": 1, "id": "after"})).await;
    browser.see("after").await;
    browser.see_no("The API does not answer.").await;
    assert_eq!(system.get("/v1/queues/q/messages/before").await["state"], "waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn hung_api_is_reported_and_the_live_tail_connects_again() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1})).await;
    let browser = browse(&system, "/queues/q/events").await;
    browser.see("Live").await;
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &system.api.id().to_string()]).status();
        assert!(status.unwrap().success());
    };
    // A stopped process keeps its connections open, and answers nothing.
    signal("-STOP");
    browser.see("The API does not answer.").await;
    browser.see("The stream broke off.").await;
    signal("-CONT");
    browser.see("Live").await;
    system.post("q", json!({"data": 1, "id": "after"})).await;
    browser.see("after").await;
    browser.see_no("The API does not answer.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_that_is_opened_while_redis_is_away_shows_queues_when_redis_is_back() {
    let mut system = System::start("").await;
    system.redis.kill();
    let browser = browse(&system, "/queues").await;
    browser.see("The API answers, but Redis is not available.").await;
    system.redis.restart();
    browser.see("There are no queues yet.").await;
    browser.see_no("Redis is not available.").await;
    system.wait_until_ready(&system.base).await;
    system.post("mails", json!({"data": 1})).await;
    browser.see("mails").await;
}
