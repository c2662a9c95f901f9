//! Texts that try to become a part of the page or to mislead its reader.

use queue_core::{Action, Failure};
use serde_json::json;

use super::browse;
use crate::System;

const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";
/// The text after the override would be shown from right to left, as "gpj.exe".
const REVERSED: &str = "evil\u{202e}exe.jpg\u{2066}";

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_are_shown_as_texts_in_every_view() {
    let system = System::start("").await;
    let id = "<b>id<b>?#%2e&x=1 \u{5d0}\u{202e}";
    let message = json!({
        "data": {HOSTILE: HOSTILE, "rtl": REVERSED, "__proto__": {"polluted": 1}, "deep": "\u{0007}\u{200b}"},
        "id": id, "name": HOSTILE, "group": HOSTILE.replace('/', "|"), "headers": {HOSTILE: REVERSED},
    });
    let (status, stored) = system.request(reqwest::Method::POST, "/v1/queues/q/messages", Some(message)).await;
    assert_eq!(status, 201, "{stored}");
    let failure = Failure::new(HOSTILE, format!("{HOSTILE}{REVERSED}"));
    assert_eq!(system.settle_all("q", Action::FailForGood(failure)).await, 1);

    let browser = browse(&system, "/queues/q/events").await;
    browser.see("Live").await;
    let (status, _) = system.post_empty("/v1/queues/q/retry_failed").await;
    assert_eq!(status, 200);
    let failure = Failure::new(HOSTILE, format!("{HOSTILE}{REVERSED}"));
    assert_eq!(system.settle_all("q", Action::FailForGood(failure)).await, 1);
    browser.see("failed").await;
    browser.see("<b>id<b>").await;

    browser.open(&system.url("/dashboard?again#/queues/q/messages?state=failed")).await;
    browser.see("<img src=x").await;
    browser.click_on("td.name a").await;
    browser.see("Timeline").await;
    browser.see("<script>document.title='owned'</script>").await;
    // Characters that change the direction of text, and invisible ones, are shown by their codes in JSON.
    browser.see("evil\\u202eexe.jpg\\u2066").await;
    browser.see("\\u0007\\u200b").await;
    browser.see("\"__proto__\"").await;
    // Other texts show these characters by their codes, too, and cannot change what stands beside them.
    let isolated = "return Array.from(document.querySelectorAll('h1 bdi, td bdi, dd bdi, .code bdi')).every(
        (node) => getComputedStyle(node).unicodeBidi === 'isolate')";
    assert_eq!(browser.eval(isolated, json!([])).await.unwrap(), true);
    browser.see("<b>id<b>?#%2e&x=1 \u{5d0}\\u202e").await;
    browser.click_on(".head button.erase").await;
    browser.see("forgets the message <b>id<b>?#%2e&x=1 \u{5d0}\\u202e and its result.").await;
    browser.click("button", "Cancel").await;
    browser.click_on(".head button.retry").await;
    browser.see("is ready again.").await;
    assert_eq!(browser.count("main img, main script, .toasts img").await, 0);
    let title = browser.eval("return document.title", json!([])).await.unwrap();
    assert!(title.as_str().unwrap().starts_with("<b>id<b>"), "{title}");
    assert_eq!(system.get("/v1/queues/q").await["counts"]["waiting"], 1);

    browser.open(&system.url("/dashboard?signals#/queues/q/signals")).await;
    browser.click("button", "Send a signal").await;
    browser.fill("Key", "<b>key<b>?#%2e \u{202e}").await;
    browser.fill("Data (JSON)", &json!(HOSTILE).to_string()).await;
    browser.fill("Sticky for", "1h").await;
    browser.click("button", "Send").await;
    browser.see("The signal <b>key<b>?#%2e \\u202e released 0 messages.").await;
    browser.see("<script>document.title='owned'</script>").await;
    browser.click("button", "Delete <b>key<b>?#%2e \\u202e").await;
    browser.see("held for <b>key<b>?#%2e \\u202e wait").await;
    browser.click("button", "Delete").await;
    browser.see("This queue keeps no signal.").await;
    let schedule = json!({"every": "1h", "message": {"data": HOSTILE, "name": HOSTILE}});
    let (status, _) = system.request(reqwest::Method::PUT, "/v1/queues/q/schedules/s", Some(schedule)).await;
    assert_eq!(status, 201);
    browser.click("a", "Schedules 1").await;
    browser.click("button", "Edit s").await;
    browser.click("button", "Change").await;
    browser.see("The schedule s was changed.").await;
    assert_eq!(system.get("/v1/queues/q/schedules/s").await["message"]["data"], HOSTILE);
    assert_eq!(browser.count("main img, main script, dialog img, .toasts img").await, 0);
    assert_eq!(browser.eval("return document.title.includes('owned')", json!([])).await.unwrap(), false);
}
