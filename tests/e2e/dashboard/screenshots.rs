//! `make screenshots`: pictures of the dashboard for the documents, from a real run with sample messages. The argument is the
//! folder of the pictures.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // A failure here is a failure of the run; a person reads its progress.

#[path = "../browser.rs"]
#[expect(dead_code, reason = "the end-to-end tests use its other functions")]
mod browser;
#[path = "../system.rs"]
#[expect(dead_code, reason = "the end-to-end tests use its other functions")]
mod system;

use std::{env, fs, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use browser::{Browser, Colours};
use drover_tests::RedisServer;
use queue_core::{Action, Failure};
use reqwest::Method;
use serde_json::{Value, json};
use system::System;

const CONFIG: &str = "
    [[worker.routes]]
    queue = \"mails\"
    handler = { type = \"log\", result = \"sent\" }
    [[worker.routes]]
    queue = \"orders\"
    name = \"charge\"
    handler = { type = \"log\", result = { charged = true, receipt = \"R-7001\" } }
    [queues.orders]
    max_attempts = 2
    backoff = { type = \"fixed\", delay = 10 }
";

/// The largest picture, in bytes: the repository keeps every version of it.
const MAX_BYTES: usize = 60_000;
/// Rounds of posts, about a third of a second each, so that the charts have a history.
const ROUNDS: u64 = 150;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let folder = PathBuf::from(env::args().nth(1).unwrap_or_else(|| "docs".to_owned()));
    let system = System::start_on(RedisServer::start_durable(), CONFIG).await;
    let _worker = system.worker().await;
    post_samples(&system).await;
    let browser = Browser::start().await;
    browser.open(&system.url("/dashboard")).await;
    for round in 0..ROUNDS {
        post_round(&system, round).await;
    }
    println!("posted the sample messages");
    system.lease("thumbnails", 8).await;
    browser.wait_for("active messages", "document.querySelector('td.active:not(.zero)')", json!([])).await;
    take(&browser, (1280, 720), Colours::Light, &folder.join("dashboard.webp")).await;
    browser.open(&system.url("/dashboard?message#/queues/orders/message/order-7001")).await;
    browser.see("Timeline").await;
    browser.see("\"charged\"").await;
    take(&browser, (1280, 720), Colours::Dark, &folder.join("dashboard-message.webp")).await;
}

/// Posts messages that stay in their queues while the pictures are taken.
async fn post_samples(system: &System) {
    for (queue, count) in [("invoices", 21), ("search-index", 38), ("thumbnails", 12), ("user-events", 9)] {
        system.post_batch(queue, (0..count).map(|n| json!({"data": {"n": n}}))).await;
    }
    system.post_batch("reports", (1..15).map(|n| json!({"data": {"report": n}, "delay": format!("{n}h")}))).await;
    system.post_batch("payments", (1..6).map(|n| json!({"data": {"n": n}, "hold": format!("paid:{n}")}))).await;
    let (status, _) = system.post_empty("/v1/queues/search-index/pause").await;
    assert_eq!(status, 200);
    let schedule =
        json!({"cron": "30 9 * * mon-fri", "timezone": "Europe/Berlin", "message": {"data": {"kind": "daily"}}});
    assert_eq!(system.request(Method::PUT, "/v1/queues/reports/schedules/daily", Some(schedule)).await.0, 201);
    system.post_batch("webhooks", (0..4).map(|n| json!({"data": {"n": n}}))).await;
    let failure = Failure::new("http_500", "the host answered 500");
    system.settle_all("webhooks", Action::FailForGood(failure)).await;
    let items = json!([{"sku": "A-1", "count": 2}, {"sku": "B-7", "count": 1}]);
    let order: Value = json!({"order": 7001, "customer": "ada@example.org", "items": items, "total": 59.9});
    let message = json!({"data": order, "id": "order-7001", "name": "charge", "headers": {"tenant": "acme"}});
    let location = system.post("orders", message).await;
    system.finished(&location).await;
}

/// Posts messages that are soon completed, so that the charts show changing rates.
async fn post_round(system: &System, round: u64) {
    let wave = |count: u64| (count * (20 + (round * 7919) % 17) / 20).max(1);
    system.post_batch("mails", (0..wave(40)).map(|n| json!({"data": {"to": n}, "name": "welcome"}))).await;
    system.post_batch("orders", (0..wave(12)).map(|n| json!({"data": {"order": n}, "name": "charge"}))).await;
    system.post_batch("invoices", (0..wave(4)).map(|n| json!({"data": {"invoice": n}}))).await;
    let lease = json!({"max": wave(4)});
    let leased: Value = system.send_to("/v1/queues/invoices/leases", &lease).await.json().await.unwrap();
    for message in leased["messages"].as_array().unwrap() {
        let settle = json!({"lease": message["lease"], "result": {"paid": true}});
        system.send_to("/v1/queues/invoices/leases/complete", &settle).await;
    }
    // Each point of the charts is the rate of two seconds.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

async fn take(browser: &Browser, size: (u32, u32), colours: Colours, file: &PathBuf) {
    browser.show_as(size, colours).await;
    browser.wait_for("colours", "document.getAnimations().length === 0", json!([])).await;
    let picture = browser.devtools("Page.captureScreenshot", json!({"format": "webp", "quality": 80})).await;
    let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
    assert!(bytes.len() < MAX_BYTES, "{} has {} bytes", file.display(), bytes.len());
    fs::write(file, &bytes).unwrap();
    println!("{} has {} bytes", file.display(), bytes.len());
}
