//! Tests of changes that users make rarely in the dashboard: releasing held messages, editing a message, deleting a schedule and a queue.

use reqwest::Method;
use serde_json::json;

use super::browse;
use crate::{System, number};

#[tokio::test(flavor = "multi_thread")]
async fn held_messages_of_a_key_are_released_after_a_confirmation() {
    let system = System::start("").await;
    for id in ["a", "b"] {
        system.post("q", json!({"data": 1, "id": id, "hold": "paid:42"})).await;
    }
    system.post("q", json!({"data": 1, "id": "other", "hold": "paid:43"})).await;
    let browser = browse(&system, "/queues/q").await;
    browser.see("waits for paid:42").await;
    browser.click("button", "Release a").await;
    browser.see("All messages of the queue that wait for paid:42 are released.").await;
    browser.click("button", "Cancel").await;
    browser.click("button", "Release a").await;
    browser.click("button", "Send").await;
    browser.see("The signal paid:42 released 2 messages.").await;
    let counts = &system.get("/v1/queues/q").await["counts"];
    assert_eq!((&counts["waiting"], &counts["held"]), (&json!(2), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_was_never_leased_is_edited() {
    let system = System::start("").await;
    system
        .post("q", json!({"data": {"n": 12_345_678_901_234_567_890_u64, "text": "\u{202e}"}, "id": "m", "delay": "1h"}))
        .await;
    let browser = browse(&system, "/queues/q/message/m").await;
    browser.click("button", "Edit m").await;
    browser.fill("Priority", "high").await;
    browser.click("button", "Change").await;
    browser.see("/priority").await;
    browser.fill("Priority", "-3").await;
    browser.fill("Delay from now", "2h").await;
    // The numbers in a message's data stay exact, although they are too large for JavaScript's numbers.
    let change =
        "const area = document.querySelector('dialog textarea'); area.value = area.value.replace('890,', '891,')";
    browser.eval(change, json!([])).await.unwrap();
    browser.click("button", "Change").await;
    browser.see("The message m was changed.").await;
    browser.see("12345678901234567891").await;
    let message = system.get("/v1/queues/q/messages/m").await;
    assert_eq!(message["data"], json!({"n": 12_345_678_901_234_567_891_u64, "text": "\u{202e}"}));
    assert_eq!((&message["priority"], &message["delay"].as_u64().unwrap() / 100_000), (&json!(-3), 72));

    // A message that was leased can't be edited.
    system.post("q", json!({"data": 1, "id": "leased"})).await;
    assert_eq!(system.lease("q", 1).await.len(), 1);
    browser.open(&system.url("/dashboard#/queues/q/message/leased")).await;
    browser.see("Cancel").await;
    assert_eq!(browser.count("button.edit").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_and_queue_are_deleted_only_after_a_confirmation() {
    let system = System::start("").await;
    system.post("q", number(1)).await;
    let schedule = json!({"every": "1h", "message": {"data": 1}});
    assert_eq!(system.request(Method::PUT, "/v1/queues/q/schedules/hourly", Some(schedule)).await.0, 201);
    let browser = browse(&system, "/queues/q/schedules").await;
    browser.click("button", "Delete hourly").await;
    browser.see("The schedule hourly posts no more messages.").await;
    browser.click("button", "Cancel").await;
    assert_eq!(system.get("/v1/queues/q").await["schedules"], 1);
    browser.click("button", "Delete hourly").await;
    browser.click("button", "Delete").await;
    browser.see("The schedule hourly was deleted.").await;
    browser.see("This queue has no schedules.").await;

    browser.click("a", "Settings").await;
    browser.click("button", "Delete the queue").await;
    browser.see("1 of them unfinished").await;
    browser.fill("Name of the queue, to confirm", "other").await;
    browser.click("button", "Delete").await;
    browser.see("confirm=q").await;
    assert_eq!(system.get("/v1/queues/q").await["counts"]["waiting"], 1);
    browser.fill("Name of the queue, to confirm", "q").await;
    browser.click("button", "Delete").await;
    browser.see("The queue q was deleted.").await;
    browser.see("There are no queues yet.").await;
    assert_eq!(system.request(Method::GET, "/v1/queues/q", None).await.0, 404);
}
