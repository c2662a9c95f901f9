//! The keyboard focus after an action, and while the page updates itself.

use serde_json::json;

use super::{browse, post_failed};
use crate::{
    System,
    browser::{Browser, ENTER, ESCAPE, SPACE},
    number,
};

/// Waits until the element with this label or text has the focus.
async fn wait_for_focus(browser: &Browser, label: &str) {
    let focused = "(document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim())";
    browser.wait_for_value("the focus", focused, &json!(label)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn focus_stays_on_the_button_that_pauses_and_resumes() {
    let system = System::start("").await;
    system.post("q", number(1)).await;
    let browser = browse(&system, "/queues").await;
    for place in ["/queues", "/queues/q"] {
        browser.open(&system.url(&format!("/dashboard#{place}"))).await;
        browser.see("Pause").await;
        browser.tab_to("Pause q").await;
        for label in ["Resume q", "Pause q"] {
            browser.press(&SPACE.to_string()).await;
            wait_for_focus(&browser, label).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn focus_moves_to_the_next_message_when_a_message_leaves_the_list() {
    let system = System::start("").await;
    for id in ["third", "second", "first"] {
        post_failed(&system, "q", id).await;
    }
    let browser = browse(&system, "/queues/q/messages?state=failed").await;
    browser.see("first").await;
    browser.tab_to("Retry first").await;
    browser.press(&ENTER.to_string()).await;
    wait_for_focus(&browser, "second").await;
    browser.tab_to("Erase second").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("Erase the message?").await;
    browser.press(&ESCAPE.to_string()).await;
    wait_for_focus(&browser, "Erase second").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("Erase the message?").await;
    // The message `second` leaves the shown list while the dialog is open.
    let (status, _) = system.post_empty("/v1/queues/q/messages/second/retry").await;
    assert_eq!(status, 200);
    browser.wait_for("one message", "document.querySelectorAll('tbody tr').length === 1", json!([])).await;
    browser.press(&ESCAPE.to_string()).await;
    wait_for_focus(&browser, "q").await;
    // When an action is done, the button of another action takes the place of its button. A key that is still pressed must not start that
    // other action.
    browser.tab_to("third").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("Timeline").await;
    browser.tab_to("Retry third").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("The message third is ready again.").await;
    wait_for_focus(&browser, "third").await;
    assert_eq!(system.get("/v1/queues/q").await["counts"]["waiting"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn focus_stays_on_a_link_to_another_page_while_the_page_updates_itself() {
    let system = System::start("").await;
    system.post_batch("q", (0..60).map(number)).await;
    let browser = browse(&system, "/queues/q").await;
    browser.see("Next page").await;
    let link = "[...document.querySelectorAll('.pages a')].find((node) => node.textContent === 'Next page')";
    browser.eval(&format!("{link}.focus()"), json!([])).await.unwrap();
    let reads = "performance.getEntriesByType('resource').filter(({name}) => name.includes('/messages?')).length";
    let before = browser.eval(&format!("return {reads}"), json!([])).await.unwrap();
    browser.wait_for("three updates", &format!("{reads} > arguments[0] + 2"), json!([before])).await;
    wait_for_focus(&browser, "Next page").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("First page").await;
}
