//! The dashboard by keyboard alone.

use serde_json::json;

use super::{browse, post_failed};
use crate::{
    System,
    browser::{ENTER, ESCAPE, SPACE},
};

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_reached_and_done_by_keyboard() {
    let system = System::start("").await;
    post_failed(&system, "q", "order-1").await;
    let failed = async || system.get("/v1/queues/q").await["counts"]["failed"].clone();
    let browser = browse(&system, "/queues").await;
    browser.see("Pause").await;

    browser.press("/q").await;
    browser.tab_to("Pause q").await;
    browser.press(&SPACE.to_string()).await;
    browser.see("The queue q was paused.").await;
    browser.tab_to("q").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("Posted/s").await;

    // The page of a queue shows each state as a link with the number of messages. A purge first asks for a confirmation.
    browser.tab_to("1Failed").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("Purge failed").await;
    browser.tab_to("Purge failed").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("This can't be undone.").await;
    browser.press(&ESCAPE.to_string()).await;
    browser.see_no("This can't be undone.").await;
    // When the dialog is closed, the focus returns to the button "Purge failed". Pressing Enter again opens the dialog, and Enter in the
    // dialog purges nothing.
    let focused = "document.activeElement.textContent === 'Purge failed'";
    browser.wait_for("the focus returns", focused, json!([])).await;
    browser.press(&ENTER.to_string()).await;
    browser.see("This can't be undone.").await;
    browser.press(&ENTER.to_string()).await;
    browser.see_no("This can't be undone.").await;
    assert_eq!(failed().await, 1);

    browser.tab_to("order-1").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("Timeline").await;
    browser.tab_to("Retry order-1").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("The message order-1 is ready again.").await;
    assert_eq!(failed().await, 0);

    browser.tab_to("Post").await;
    browser.press(&ENTER.to_string()).await;
    browser.tab_to("Queue").await;
    browser.press("letters").await;
    browser.tab_to("Post the message").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("Details").await;
    assert_eq!(system.get("/v1/queues/letters").await["counts"]["waiting"], 1);
}
