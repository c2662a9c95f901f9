//! Every view in light and dark, at the width of a desktop and of a phone: without violations that axe-core finds, and without
//! horizontal scrolling.

use std::{fs, path::PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use super::post_failed;
use crate::{
    System, auth,
    browser::{
        Browser,
        Colours::{Dark, Light},
    },
};

const DESKTOP: (u32, u32) = (1440, 900);
const PHONE: (u32, u32) = (390, 844);

/// The source of axe-core, which `scripts/axe.sh` installs.
pub(crate) fn axe() -> String {
    let target: PathBuf = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let file = target.join("axe/node_modules/axe-core/axe.min.js");
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}: run scripts/axe.sh", file.display()))
}

const RUN: &str = "
    const done = arguments[arguments.length - 1];
    axe.run(document, {resultTypes: ['violations']}).then(
        ({violations}) => done(violations.map(({id, nodes}) => `${id}: ${nodes.map(({html}) => html).join(' ')}`)),
        (error) => done([String(error)]));";

/// Checks what the browser shows, in both sizes and colours.
pub(crate) async fn check(browser: &Browser, axe: &str, name: &str) {
    browser.eval(axe, json!([])).await.unwrap();
    for size in [DESKTOP, PHONE] {
        for colours in [Light, Dark] {
            browser.show_as(size, colours).await;
            // Transitions between colours have ended.
            browser.wait_for("colours", "document.getAnimations().length === 0", json!([])).await;
            let violations = browser.eval_async(RUN, json!([])).await;
            assert_eq!(violations, json!([]), "{name}, {size:?}, {colours:?}");
            let width = browser.eval("return document.documentElement.scrollWidth", json!([])).await.unwrap();
            assert!(width.as_u64().unwrap() <= u64::from(size.0), "{name} is {width} wide, {size:?}");
        }
    }
}

/// A queue with messages in every state, long texts and a schedule.
async fn fill(system: &System) {
    let long = "a-long-text-without-a-space-".repeat(9);
    post_failed(system, "every-state", "failed-1").await;
    system.post("every-state", json!({"data": 1})).await;
    assert_eq!(system.settle_all("every-state", crate::completed()).await, 1);
    system.post("every-state", json!({"data": 1})).await;
    system.lease("every-state", 1).await;
    for message in [
        json!({"data": {long.clone(): [long, 1, true, null]}, "id": long, "name": long[..128], "group": long}),
        json!({"data": 1, "delay": "1h"}),
        json!({"data": 1, "hold": "paid:42"}),
    ] {
        system.post("every-state", message).await;
    }
    system.post(&long[..128], json!({"data": 1})).await;
    let schedule = json!({"every": "1h", "message": {"data": {"kind": long}}});
    let path = format!("/v1/queues/every-state/schedules/{}", &long[..60]);
    assert_eq!(system.request(Method::PUT, &path, Some(schedule)).await.0, 201);
    let path = format!("/v1/queues/every-state/signals/{long}");
    let signal = json!({"data": {"text": long}, "sticky_for": "30d"});
    assert_eq!(system.request(Method::POST, &path, Some(signal)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_have_no_violations_and_fit_a_phone() {
    let system = System::start("").await;
    fill(&system).await;
    let (browser, axe) = (Browser::start().await, axe());
    let long = format!("a-long-text-without-a-space-{}", "a-long-text-without-a-space-".repeat(8));
    for (place, text) in [
        ("/queues", "every-state"),
        ("/queues/every-state", "failed-1"),
        ("/queues/every-state/messages?state=failed", "it broke"),
        ("/queues/every-state/messages?name=none", "No message fits this filter."),
        ("/queues/every-state/message/failed-1", "it broke"),
        (&format!("/queues/every-state/message/{long}"), "Data"),
        ("/queues/every-state/schedules", "every 1h"),
        ("/queues/every-state/signals", "Still held"),
        ("/queues/every-state/events", "Live"),
        ("/queues/every-state/settings", "exponential"),
        ("/queues/nowhere", "nowhere"),
        ("/post", "More options"),
    ] {
        browser.open(&system.url(&format!("/dashboard?{}#{place}", place.len()))).await;
        browser.see(text).await;
        check(&browser, &axe, place).await;
    }
    browser.open(&system.url("/")).await;
    check(&browser, &axe, "the start page").await;
    let empty = System::start("").await;
    browser.open(&empty.url("/dashboard")).await;
    browser.see("There are no queues yet.").await;
    check(&browser, &axe, "the first screen of a new installation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialogs_and_reports_have_no_violations_and_fit_a_phone() {
    let key = auth::issue("--id all --scopes enqueue,read,consume,manage");
    let guarded = System::start(&auth::config(&[&key])).await;
    let (browser, axe) = (Browser::start().await, axe());
    browser.open(&guarded.url("/dashboard")).await;
    browser.fill("API key", "drv_all_wrong").await;
    browser.click("button", "Use this key").await;
    browser.see("This key is not known, or it has expired.").await;
    check(&browser, &axe, "the dialog for a key").await;

    let mut system = System::start("").await;
    post_failed(&system, "q", "order-1").await;
    browser.open(&system.url("/dashboard#/queues/q/messages?state=failed")).await;
    browser.click("button", "Purge failed").await;
    browser.see("This can't be undone.").await;
    check(&browser, &axe, "the confirmation").await;
    browser.click("button", "Purge").await;
    system.post("q", json!({"data": {"n": 1}, "id": "order-2", "hold": "paid:2"})).await;
    let schedule = json!({"every": "1h", "max_runs": 9, "message": {"data": 1}});
    assert_eq!(system.request(Method::PUT, "/v1/queues/q/schedules/hourly", Some(schedule)).await.0, 201);
    for (place, action) in [
        ("messages", "Release order-2"),
        ("message/order-2", "Edit order-2"),
        ("settings", "Change settings"),
        ("settings", "Delete the queue"),
        ("schedules", "Create a schedule"),
        ("schedules", "Edit hourly"),
        ("signals", "Send a signal"),
    ] {
        browser.open(&system.url(&format!("/dashboard?{}#/queues/q/{place}", action.len()))).await;
        browser.click("button", action).await;
        browser.wait_for("the dialog", "document.querySelector('dialog[open]')", json!([])).await;
        check(&browser, &axe, action).await;
    }
    system.api.kill();
    browser.see("The API does not answer.").await;
    check(&browser, &axe, "the page without the API").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_shows_light_and_dark_colours() {
    let system = System::start("").await;
    let browser = Browser::start().await;
    browser.open(&system.url("/dashboard")).await;
    browser.see("There are no queues yet.").await;
    let background = async || -> Value {
        browser.eval("return getComputedStyle(document.body).backgroundColor", json!([])).await.unwrap()
    };
    browser.show_as(DESKTOP, Light).await;
    let light = background().await;
    browser.show_as(DESKTOP, Dark).await;
    assert_ne!(background().await, light);
}
