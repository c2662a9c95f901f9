//! The dashboard of an API with keys: it asks for a key, and shows only what the key may do.

use reqwest::Method;
use serde_json::json;

use crate::{
    System,
    auth::{config, issue},
    browser::{Browser, ENTER},
};

/// The status and the JSON of `GET /v1/key`.
async fn rights(system: &System, key: &str) -> (u16, serde_json::Value) {
    let answer = system.http.get(system.url("/v1/key")).bearer_auth(key).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn key_may_read_its_own_scopes_and_queues() {
    let shop = issue("--id shop --scopes enqueue --queues mails,user-*");
    let system = System::start(&config(&[&shop])).await;
    let expected = json!({"id": "shop", "scopes": ["enqueue"], "queues": ["mails", "user-*"]});
    assert_eq!(rights(&system, &shop.key).await, (200, expected));
    let (status, problem) = rights(&system, "drv_shop_wrong").await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
}

#[tokio::test(flavor = "multi_thread")]
async fn page_asks_for_a_key_and_shows_no_actions_to_a_key_that_only_reads() {
    let (all, reader) = (issue("--id all --scopes enqueue,read,consume,manage"), issue("--id reader --scopes read"));
    let system = System::start(&config(&[&all, &reader])).await;
    let post = system.http.post(system.url("/v1/queues/q/messages")).bearer_auth(&all.key);
    assert_eq!(post.json(&json!({"data": 1, "id": "order-1"})).send().await.unwrap().status(), 201);

    let browser = Browser::start().await;
    browser.open(&system.url("/dashboard")).await;
    browser.see("This API needs a key.").await;
    browser.fill("API key", "drv_reader_wrong").await;
    browser.press(&ENTER.to_string()).await;
    browser.see("This key is not known, or it has expired.").await;
    browser.fill("API key", &reader.key).await;
    browser.click("button", "Use this key").await;
    browser.click("a", "q").await;
    browser.see("order-1").await;
    assert_eq!(browser.count("td button, .head button, a.button.primary").await, 0);
    assert_eq!(browser.count("#nav a[href='#/post']").await, 0);
    browser.click("a", "order-1").await;
    browser.see("Posted").await;
    assert_eq!(browser.count("main button").await, 0);
    for (path, body) in [
        ("schedules/hourly", json!({"every": "1h", "message": {"data": 1}})),
        ("signals/paid:42", json!({"sticky_for": "1h"})),
    ] {
        let method = if path.starts_with("signals") { Method::POST } else { Method::PUT };
        let request = system.http.request(method, system.url(&format!("/v1/queues/q/{path}"))).bearer_auth(&all.key);
        assert!(request.json(&body).send().await.unwrap().status().is_success());
    }
    for (tab, text) in [("schedules", "hourly"), ("signals", "paid:42")] {
        browser.open(&system.url(&format!("/dashboard?{tab}#/queues/q/{tab}"))).await;
        browser.see(text).await;
        assert_eq!(browser.count("main button").await, 0, "{tab}");
    }

    // The key is kept over a reload, is nowhere in the page or in a lasting store, and is forgotten on request.
    browser.open(&system.url("/dashboard?again#/queues/q")).await;
    browser.see("order-1").await;
    let kept =
        "return [localStorage.length, document.cookie, document.documentElement.outerHTML.includes(arguments[0])]";
    assert_eq!(browser.eval(kept, json!([reader.key])).await.unwrap(), json!([0, "", false]));
    browser.click("button", "Forget key").await;
    browser.see("This API needs a key.").await;
    browser.see_no("This key is not known").await;
    browser.fill("API key", &all.key).await;
    browser.click("button", "Use this key").await;
    browser.click("button", "Cancel order-1").await;
    browser.see("The message order-1 is cancelled.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_only_posts_sees_the_form() {
    let shop = issue("--id shop --scopes enqueue --queues mails");
    let system = System::start(&config(&[&shop])).await;
    let browser = Browser::start().await;
    browser.open(&system.url("/dashboard")).await;
    browser.fill("API key", &shop.key).await;
    browser.click("button", "Use this key").await;
    browser.see("This key may post, and not read.").await;
    browser.fill("Queue", "other").await;
    browser.click("button", "Post the message").await;
    browser.see("does not have the scope enqueue").await;
    browser.fill("Queue", "mails").await;
    browser.click("button", "Post the message").await;
    browser.see("was posted.").await;
    assert_eq!(browser.count(".error").await, 0);
}
