//! The dashboard in a real browser, with real services.

pub(crate) mod accessibility;
mod actions;
mod changes;
mod files;
mod focus;
mod forms;
mod hostile_texts;
mod keyboard;
mod keys;
mod outage;
mod timeline;
mod views;

use serde_json::json;

use crate::System;
use crate::browser::Browser;

/// A browser that shows a part of the dashboard of a running system.
async fn browse(system: &System, place: &str) -> Browser {
    let browser = Browser::start().await;
    browser.open(&system.url(&format!("/dashboard#{place}"))).await;
    browser
}

/// Posts a message and leases it, so that it fails without another attempt.
async fn post_failed(system: &System, queue: &str, id: &str) {
    system.post(queue, json!({"data": {"n": 1}, "id": id})).await;
    assert_eq!(system.settle_all(queue, crate::failed()).await, 1);
}
