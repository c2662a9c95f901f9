//! The forms for schedules and signals.

use reqwest::Method;
use serde_json::json;

use super::browse;
use crate::{
    System,
    browser::{Browser, ENTER, ESCAPE},
    number,
};

/// Chooses an option of the list in the field with this label.
async fn choose(browser: &Browser, label: &str, value: &str) {
    let script = "
        const field = Array.from(document.querySelectorAll('dialog .field')).find((node) => node.firstElementChild.textContent === arguments[0]);
        field.querySelector('select').value = arguments[1];";
    browser.eval(script, json!([label, value])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn schedule_is_created_and_changed_by_a_form() {
    let system = System::start("").await;
    system.post("q", number(1)).await;
    let path = "/v1/queues/q/schedules/yearly";
    let browser = browse(&system, "/queues/q/schedules").await;
    browser.see("This queue has no schedules.").await;
    browser.click("button", "Create a schedule").await;
    browser.fill("Name", "yearly").await;
    browser.fill("Cron pattern", "0 12 1 1").await;
    browser.click("button", "Create").await;
    browser.see("/cron").await;
    browser.fill("Cron pattern", "0 12 1 1 *").await;
    browser.fill("Time zone", "Europe/Berlin").await;
    browser.fill("Message (JSON)", "{\"data\": {\"n\": 12345678901234567890}").await;
    browser.click("button", "Create").await;
    browser.see("Message: not JSON").await;
    browser.fill("Message (JSON)", "{\"data\": {\"n\": 12345678901234567890}, \"name\": \"report\"}").await;
    browser.click("summary", "More options").await;
    choose(&browser, "Missed ticks", "skip").await;
    browser.click("button", "Create").await;
    browser.see("The schedule yearly was created.").await;
    browser.see("0 12 1 1 * (Europe/Berlin)").await;
    let schedule = system.get(path).await;
    assert_eq!((&schedule["missed"], &schedule["overlap"]), (&json!("skip"), &json!("allow")));
    assert_eq!(schedule["message"]["name"], "report");

    // The name of an existing schedule is refused, so that no schedule is replaced by mistake.
    browser.click("button", "Create a schedule").await;
    browser.fill("Name", "yearly").await;
    browser.fill("Or every", "5m").await;
    browser.click("button", "Create").await;
    browser.see("The queue has a schedule yearly already.").await;
    browser.press(&ESCAPE.to_string()).await;

    // The form begins with the stored definition, even if another client has changed it since the page was read.
    let changed = json!({"every": 5_400_500, "offset": "1m", "overlap": "skip", "message": {"data": [1]}});
    assert_eq!(system.request(Method::PUT, path, Some(changed)).await.0, 200);
    browser.click("button", "Edit yearly").await;
    let every = "[...document.querySelectorAll('dialog .field')].find((node) => node.firstElementChild.textContent === 'Or every')
        .querySelector('input').value";
    browser.wait_for_value("the interval", every, &json!("1h 30m 500ms")).await;
    browser.fill("Runs", "7").await;
    browser.tab_to("Change").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("The schedule yearly was changed.").await;
    let schedule = system.get(path).await;
    let kept = (&schedule["every"], &schedule["offset"], &schedule["overlap"], &schedule["message"]["data"]);
    assert_eq!(kept, (&json!(5_400_500), &json!(60_000), &json!("skip"), &json!([1])));
    assert_eq!((&schedule["max_runs"], &schedule["cron"]), (&json!(7), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sticky_signals_are_sent_listed_and_deleted() {
    let system = System::start("").await;
    let held = system.post("q", json!({"data": 1, "hold": "paid:42"})).await;
    let browser = browse(&system, "/queues/q").await;
    browser.click("a", "Signals").await;
    browser.see("This queue keeps no signal.").await;
    browser.click("button", "Send a signal").await;
    browser.fill("Key", "paid:42").await;
    browser.fill("Data (JSON)", "{\"amount\": 12.0").await;
    browser.click("button", "Send").await;
    browser.see("Data: not JSON").await;
    browser.fill("Data (JSON)", "{\"amount\": 12.0}").await;
    browser.fill("Sticky for", "31d").await;
    browser.click("button", "Send").await;
    browser.see("/sticky_for").await;
    browser.fill("Sticky for", "2h").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("The signal paid:42 released 1 message. It is kept until").await;
    browser.see("1h 59m").await;
    browser.see("{\"amount\": 12.0}").await;
    assert_eq!(system.get(&held).await["state"], "waiting");

    browser.click("button", "Send a signal").await;
    browser.fill("Key", "paid:43").await;
    browser.click("button", "Send").await;
    browser.see("The signal paid:43 released 0 messages.").await;
    browser.click("button", "Delete paid:42").await;
    browser.see("wait for another signal").await;
    browser.click("button", "Delete").await;
    browser.see("The signal paid:42 was deleted.").await;
    browser.see("This queue keeps no signal.").await;
    assert_eq!(system.get("/v1/queues/q/signals").await["signals"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_have_pages() {
    let system = System::start("").await;
    for index in 0..60 {
        let signal = json!({"sticky_for": 3_600_000 + 1_000 * index});
        assert_eq!(
            system.request(Method::POST, &format!("/v1/queues/q/signals/key-{index}"), Some(signal)).await.0,
            200
        );
    }
    let browser = browse(&system, "/queues/q/signals").await;
    browser.see("key-0").await;
    assert_eq!(browser.count("tbody tr").await, 50);
    browser.click("a", "Next page").await;
    browser.wait_for("ten signals", "document.querySelectorAll('tbody tr').length === 10", json!([])).await;
    browser.open(&system.url("/dashboard?again#/queues/q/signals?cursor=nonsense")).await;
    browser.see("key-0").await;
}
