//! The other views: pages and filters, schedules, events and settings.

use reqwest::Method;
use serde_json::json;

use super::browse;
use crate::{System, number};

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_messages_have_pages_and_filters() {
    let system = System::start("").await;
    for index in 0..60 {
        system.post(&format!("user-{index:02}"), number(1)).await;
    }
    system.post_batch("many", (0..120).map(|index| json!({"data": index, "id": format!("m-{index}")}))).await;
    system.post("many", json!({"data": 1, "id": "odd-one", "name": "odd", "group": "room-7"})).await;

    let browser = browse(&system, "/queues").await;
    browser.see("user-48").await;
    assert_eq!(browser.count("tbody tr").await, 50);
    browser.click("a", "Next page").await;
    browser.see("user-59").await;
    browser.see_no("user-48").await;
    browser.click_on("input[type=search]").await;
    browser.press("user-3").await;
    browser.wait_for("ten queues", "document.querySelectorAll('tbody tr').length === 10", json!([])).await;
    browser.press("x").await;
    browser.see("No queue has a name that begins with user-3x.").await;

    browser.open(&system.url("/dashboard#/queues/many")).await;
    browser.see("m-49").await;
    browser.see_no("m-50").await;
    browser.click("a", "Next page").await;
    browser.see("m-50").await;
    for (label, text) in [("Name", "odd"), ("Group", "room-7"), ("Id", "odd-one")] {
        browser.fill(label, text).await;
        browser.click("button", "Find").await;
        browser.see("group room-7").await;
        browser.wait_for("one message", "document.querySelectorAll('tbody tr').length === 1", json!([])).await;
        browser.click("a", "Clear").await;
        browser.see("m-49").await;
    }
    // A filter searches on by itself, although each page of the API looks at no more than 1,000 messages.
    for block in 0..22 {
        system.post_batch("large", (0..1_000).map(|index| json!({"data": 1_000 * block + index}))).await;
    }
    system.post("large", json!({"data": "needle", "name": "odd"})).await;
    browser.open(&system.url("/dashboard#/queues/large/messages?name=odd")).await;
    browser.see("needle").await;
    browser.open(&system.url("/dashboard?again#/queues/large/messages?name=odd&cursor=nonsense")).await;
    browser.see("needle").await;
    browser.open(&system.url("/dashboard#/queues/many")).await;
    browser.see("m-49").await;
    browser.fill("Id", "nobody").await;
    browser.click("button", "Find").await;
    browser.see("No message fits this filter.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_is_shown_with_its_next_ticks_and_is_paused_and_run() {
    let system = System::start("").await;
    let schedule = json!({"cron": "0 12 1 1 *", "timezone": "UTC", "message": {"data": {"kind": "report"}}});
    let (status, _) = system.request(Method::PUT, "/v1/queues/q/schedules/yearly", Some(schedule)).await;
    assert_eq!(status, 201);
    let browser = browse(&system, "/queues/q/schedules").await;
    browser.see("0 12 1 1 * (UTC)").await;
    assert_eq!(browser.count("td.when li").await, 3);
    browser.click("button", "Pause yearly").await;
    browser.see("The schedule yearly was paused.").await;
    browser.click("button", "Resume yearly").await;
    browser.see("The schedule yearly was resumed.").await;
    browser.click("button", "Run now yearly").await;
    browser.see("The schedule yearly posted a message.").await;
    assert_eq!(system.get("/v1/queues/q").await["counts"]["waiting"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_live_and_stop_on_request() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "id": "first"})).await;
    let browser = browse(&system, "/queues/q/events").await;
    browser.see("Live").await;
    system.post("q", json!({"data": 1, "id": "second"})).await;
    browser.see("second").await;
    browser.see("enqueued").await;
    browser.click("button", "Stop").await;
    system.post("q", json!({"data": 1, "id": "third"})).await;
    browser.see("Stopped: 1 events were not shown.").await;
    browser.click("button", "Go on").await;
    system.post("q", json!({"data": 1, "id": "fourth"})).await;
    browser.see("fourth").await;
    browser.see_no("third").await;
    // Of many events at once, the newest are shown, the last one first.
    system.post_batch("q", (0..900).map(|index| json!({"data": index, "id": format!("m-{index}")}))).await;
    let shown = "[...document.querySelectorAll('.events a')].map((node) => node.textContent)";
    let newest: Vec<String> = (700..900).rev().map(|index| format!("m-{index}")).collect();
    browser.wait_for_value("the newest events", shown, &json!(newest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_shown_and_changed() {
    let system = System::start("").await;
    system.post("q", number(1)).await;
    let browser = browse(&system, "/queues/q/settings").await;
    browser.see("exponential").await;
    browser.click("button", "Change settings").await;
    browser.fill("Settings as JSON", "{\"max_attempts\": 0}").await;
    browser.click("button", "Change").await;
    browser.see("/max_attempts").await;
    browser.fill("Settings as JSON", "{\"max_attempts\": 77}").await;
    browser.click("button", "Change").await;
    browser.see("The settings were changed.").await;
    browser.see("77").await;
    assert_eq!(system.get("/v1/queues/q").await["settings"]["max_attempts"], 77);

    // The form "Change settings" begins with the queue's settings, and sends only the settings that the user has changed.
    browser.click("button", "Change settings").await;
    let (status, _) = system.request(Method::PATCH, "/v1/queues/q", Some(json!({"max_lapses": 9}))).await;
    assert_eq!(status, 200);
    let change = "const area = document.querySelector('dialog textarea'); area.value = area.value.replace('77', '78')";
    browser.eval(change, json!([])).await.unwrap();
    browser.click("button", "Change").await;
    browser.see_no("Settings as JSON").await;
    browser.see("78").await;
    let settings = &system.get("/v1/queues/q").await["settings"];
    assert_eq!((&settings["max_attempts"], &settings["max_lapses"]), (&json!(78), &json!(9)));
}
