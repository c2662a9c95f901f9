//! The page of the example `notifications` in a browser, while the server and the API are killed.

use serde_json::{Value, json};

use super::notifications::{Server, notification, start, wait_for_count};
use crate::{
    System,
    browser::{Browser, ENTER},
    dashboard::accessibility::{axe, check},
};

/// Posts notifications with these numbers to the user ada. Returns the state of the last notification.
async fn notify(system: &System, numbers: std::ops::Range<u64>) -> Value {
    let mut state = Value::Null;
    for n in numbers {
        let mut message = notification("ada", &json!(format!("notification {n}")));
        message["id"] = json!(format!("ada-{n}"));
        let answer = system.send("notifications", &message).await;
        state = answer.json::<Value>().await.unwrap()["state"].clone();
    }
    state
}

/// Waits until the page shows exactly the notifications with these numbers, the newest first.
async fn wait_for_shown(browser: &Browser, numbers: std::ops::Range<u64>) {
    let shown = "[...document.querySelectorAll('#notifications li')].map((node) => node.lastChild.textContent)";
    let expected: Vec<String> = numbers.rev().map(|n| format!("notification {n}")).collect();
    browser.wait_for_value("the notifications", shown, &json!(expected)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_notifications_shows_each_notification_once_and_in_order_while_the_server_and_the_api_are_killed() {
    let mut system = start().await;
    let mut server = Server::start(&system, 2);
    assert_eq!(notify(&system, 0..3).await, "held");
    let browser = Browser::start().await;
    browser.open(&server.url()).await;
    browser.enter("#user", "ada").await;
    browser.see("Logged in as ada").await;
    wait_for_shown(&browser, 0..3).await;
    // Notifications that are posted while the user is logged in arrive, too.
    notify(&system, 3..5).await;
    wait_for_shown(&browser, 0..5).await;

    // The page repeats its requests by itself, and shows no notification twice, even if the killed server lost an acknowledgement.
    notify(&system, 5..7).await;
    server.kill();
    browser.see("Trying again").await;
    notify(&system, 7..9).await;
    server.restart();
    wait_for_shown(&browser, 0..9).await;
    browser.see("Logged in as ada").await;
    system.api.kill();
    browser.see("Trying again").await;
    system.relaunch_api();
    system.wait_until_ready(&system.base).await;
    notify(&system, 9..11).await;
    wait_for_shown(&browser, 0..11).await;
    wait_for_count(&system, "completed", 11).await;

    // A server that hangs keeps its connections open, so the page must give up its request.
    server.signal("-STOP");
    browser.see("Trying again").await;
    server.signal("-CONT");
    browser.see("Logged in as ada").await;

    // A notification that comes after the logout is held until the user logs in again by keyboard.
    browser.click("button", "Log out").await;
    browser.see("Logged out").await;
    wait_for_count(&system, "active", 0).await;
    assert_eq!(notify(&system, 11..13).await, "held");
    browser.tab_to("Log in").await;
    browser.press(&ENTER.to_string()).await;
    wait_for_shown(&browser, 11..13).await;
    wait_for_count(&system, "completed", 13).await;

    check(&browser, &axe(), "the page of notifications").await;
    let violations: Vec<String> =
        browser.console().await.into_iter().filter(|line| line.contains("Security Policy")).collect();
    assert_eq!(violations, [""; 0]);
    system.assert_clean().await;
}
