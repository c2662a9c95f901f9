//! Actions by mouse: posting, retrying, purging, pausing.

use serde_json::json;

use super::{browse, post_failed};
use crate::System;

const MAILS_ROUTE_CONFIG: &str =
    "[[worker.routes]]\nqueue = \"mails\"\nhandler = { type = \"log\", result = \"sent\" }\n";

#[tokio::test(flavor = "multi_thread")]
async fn message_posted_by_the_form_is_shown_until_it_completes() {
    let system = System::start(MAILS_ROUTE_CONFIG).await;
    let _worker = system.worker().await;
    let browser = browse(&system, "/queues").await;
    browser.see("There are no queues yet.").await;
    browser.click("a", "Post a message").await;
    browser.fill("Queue", "mails").await;
    browser.fill("Data (JSON)", "{\"to\": [1, 12345678901234567890]").await;
    browser.click("button", "Post the message").await;
    browser.see("Data: not JSON").await;
    browser.fill("Data (JSON)", "{\"to\": [1, 12345678901234567890, 1.0]}").await;
    browser.fill("Delay", "soon").await;
    browser.click("button", "Post the message").await;
    browser.see("/delay").await;
    browser.fill("Delay", "1s").await;
    browser.fill("Priority", "first").await;
    browser.click("button", "Post the message").await;
    browser.see("/priority").await;
    browser.fill("Priority", "-1").await;
    browser.click("summary", "More options").await;
    browser.fill("Own id", "mail-1").await;
    browser.click("button", "Post the message").await;
    browser.see("mail-1").await;
    // The timeline begins with the post, and the result comes without a reload.
    browser.see("Posted").await;
    browser.see("Completed").await;
    browser.see("\"sent\"").await;
    browser.see("12345678901234567890,\n    1.0").await;
    let message = system.get("/v1/queues/mails/messages/mail-1").await;
    assert_eq!((&message["state"], &message["delay"]), (&json!("completed"), &json!(1_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_message_is_retried_from_its_page_and_shows_its_error() {
    let system = System::start("").await;
    post_failed(&system, "q", "order-1").await;
    let browser = browse(&system, "/queues").await;
    browser.click("a", "q").await;
    browser.click_on(".states a.failed").await;
    browser.click("a", "order-1").await;
    browser.see("it broke").await;
    browser.click("button", "Retry order-1").await;
    browser.see("The message order-1 is ready again.").await;
    browser.see("Waiting").await;
    let message = system.get("/v1/queues/q/messages/order-1").await;
    assert_eq!((&message["state"], &message["attempts_made"]), (&json!("waiting"), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_of_one_message_follow_its_state() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "id": "later", "delay": "1h"})).await;
    let browser = browse(&system, "/queues/q").await;
    browser.click("button", "Promote later").await;
    browser.wait_for("promoted", "document.querySelector('td .pill.waiting')", json!([])).await;
    assert_eq!(browser.count("button.promote").await, 0);
    browser.click("button", "Cancel later").await;
    browser.wait_for("cancelled", "document.querySelector('td .pill.failed')", json!([])).await;
    browser.see("cancelled on request").await;
    browser.click("button", "Erase later").await;
    browser.click("button", "Cancel").await;
    browser.see_no("Erase the message?").await;
    browser.see("later").await;
    browser.click("button", "Erase later").await;
    browser.click("button", "Erase").await;
    browser.see("There are no messages here.").await;
    assert_eq!(system.get("/v1/queues/q").await["counts"]["failed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_failed_messages_are_retried_and_purged_only_after_a_confirmation() {
    let system = System::start("").await;
    for id in ["a", "b", "c"] {
        post_failed(&system, "q", id).await;
    }
    let failed = async || system.get("/v1/queues/q").await["counts"]["failed"].clone();
    let browser = browse(&system, "/queues/q/messages?state=failed").await;
    browser.see("it broke").await;
    browser.click("button", "Retry all failed").await;
    browser.see("All 3 failed messages of q become ready again.").await;
    browser.click("button", "Cancel").await;
    browser.see_no("become ready again.").await;
    assert_eq!(failed().await, 3);
    browser.click("button", "Retry all failed").await;
    browser.click("button", "Retry all").await;
    browser.see("3 messages are ready again.").await;
    assert_eq!(failed().await, 0);

    assert_eq!(system.settle_all("q", crate::failed()).await, 3);
    browser.see("it broke").await;
    browser.click("button", "Purge failed").await;
    browser.see("This can't be undone.").await;
    browser.click("button", "Cancel").await;
    assert_eq!(failed().await, 3);
    browser.click("button", "Purge failed").await;
    browser.click("button", "Purge").await;
    browser.see("3 messages were purged.").await;
    browser.see("There are no messages here.").await;
    assert_eq!(failed().await, 0);
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_is_paused_and_resumed_from_the_list_and_from_its_page() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1})).await;
    let paused = async || system.get("/v1/queues/q").await["paused"].clone();
    let browser = browse(&system, "/queues").await;
    browser.click("button", "Pause q").await;
    browser.see("The queue q was paused.").await;
    assert_eq!(paused().await, true);
    browser.click("a", "q").await;
    browser.see("Paused").await;
    browser.click("button", "Resume q").await;
    browser.see("The queue q was resumed.").await;
    assert_eq!(paused().await, false);
}
