//! Tests of `/metrics` of the API and the worker, and of the document that describes the metrics.

use std::collections::{BTreeMap, BTreeSet};

use drover_tests::eventually;
use reqwest::Method;
use serde_json::json;

use crate::{
    System,
    documents::reasons_of_failed_calls,
    markdown::{document, section},
};

/// The text of `/metrics`: the type of each name, and the value of each series.
struct Metrics {
    types: BTreeMap<String, String>,
    values: BTreeMap<String, f64>,
}

impl Metrics {
    /// Parses the text strictly: each line is a comment or a series, each series belongs to the family above it, and no series
    /// is repeated.
    fn read(text: &str) -> Self {
        let (mut types, mut values) = (BTreeMap::new(), BTreeMap::new());
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} is repeated");
                name.clone_into(&mut family);
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let suffix = name.strip_prefix(family.as_str()).unwrap();
                let is_histogram = types[&family] == "histogram";
                assert_eq!(["_bucket", "_sum", "_count"].contains(&suffix), is_histogram, "{line}");
                assert!(is_histogram || suffix.is_empty(), "{line}");
                assert!(values.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} is repeated");
            }
        }
        Self { types, values }
    }

    fn get(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("{series} is missing"))
    }

    /// Returns the type and labels of each metric that has series, by the metric's name.
    fn types_and_labels(&self) -> BTreeMap<String, (String, BTreeSet<String>)> {
        let mut all: BTreeMap<_, _> =
            self.types.iter().map(|(name, kind)| (name.clone(), (kind.clone(), BTreeSet::new()))).collect();
        for series in self.values.keys() {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let name = match name.rsplit_once('_') {
                Some((family, "bucket" | "sum" | "count")) if all.contains_key(family) => family,
                _ => name,
            };
            // The text between two quotes is a value of a label. No value in this test contains a quote.
            let label_names =
                labels.split('"').step_by(2).filter_map(|text| text.trim_matches([',', '}']).strip_suffix('='));
            all.get_mut(name).unwrap().1.extend(label_names.filter(|name| *name != "le").map(str::to_owned));
        }
        all
    }
}

impl System {
    async fn scrape(&self, base: &str) -> Metrics {
        let answer = self.http.get(format!("{base}/metrics")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        Metrics::read(&answer.text().await.unwrap())
    }

    /// Scrapes until a series has this value. The series of queues may be a second old, and the last request may not yet be
    /// counted.
    async fn scrape_until(&self, base: &str, series: &str, value: f64) -> Metrics {
        for _ in 0..200 {
            let scraped = self.scrape(base).await;
            if scraped.values.get(series) == Some(&value) {
                return scraped;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{series} never was {value}; it is {:?}", self.scrape(base).await.values.get(series));
    }
}

const CONFIG: &str = r#"
    [[worker.routes]]
    queue = "mails"
    name = "known"
    handler = { type = "log", result = "done" }
"#;

/// Returns an API and a worker that have done work of each kind, and the URL of the worker.
async fn start_busy_services() -> (System, drover_tests::Process, String) {
    let system = System::start(CONFIG).await;
    let (worker, worker_url) = system.worker_and_url(&[]).await;
    for n in 0..3 {
        let location = system.post("mails", json!({"data": n, "name": "known"})).await;
        system.finished(&location).await;
    }
    let location = system.post("mails", json!({"data": 0, "name": "other", "max_attempts": 1})).await;
    assert_eq!(system.finished(&location).await["error"]["code"], "no_handler");
    let message_with_two_attempts =
        json!({"data": 0, "name": "other", "max_attempts": 2, "backoff": {"type": "fixed", "delay": 1}});
    let location = system.post("mails", message_with_two_attempts).await;
    system.finished(&location).await;
    system.post("mails", json!({"data": 0, "delay": "1h"})).await;
    system.post("elsewhere", json!({"data": 0})).await;
    (system, worker, worker_url)
}

#[tokio::test]
async fn metrics_of_both_services_count_the_work_that_was_done() {
    let (system, _worker, worker) = start_busy_services().await;
    for path in ["/nowhere", "/v1/nowhere", "/v1/queues/mails/nowhere"] {
        system.request(Method::GET, path, None).await;
    }
    system.request(Method::from_bytes(b"MADEUP").unwrap(), "/livez", None).await;
    system.request(Method::GET, "/v1/queues/an-unknown-name", None).await;

    let api = system.scrape_until(&system.base, "drover_queue_enqueued_total{queue=\"elsewhere\"}", 1.0).await;
    for (series, value) in [
        ("drover_queues_readable", 1.0),
        ("drover_queues", 2.0),
        ("drover_queues_left_out", 0.0),
        ("drover_queue_enqueued_total{queue=\"mails\"}", 6.0),
        ("drover_queue_completed_total{queue=\"mails\"}", 3.0),
        ("drover_queue_failed_total{queue=\"mails\"}", 2.0),
        ("drover_queue_retried_total{queue=\"mails\"}", 1.0),
        ("drover_queue_lapsed_total{queue=\"mails\"}", 0.0),
        ("drover_queue_messages{queue=\"mails\",state=\"delayed\"}", 1.0),
        ("drover_queue_messages{queue=\"mails\",state=\"completed\"}", 3.0),
        ("drover_queue_messages{queue=\"elsewhere\",state=\"waiting\"}", 1.0),
        ("drover_queue_oldest_waiting_age_seconds{queue=\"mails\"}", 0.0),
        ("drover_queue_paused{queue=\"mails\"}", 0.0),
        ("drover_redis_subscribed", 1.0),
        ("drover_http_requests_in_flight", 1.0),
        ("drover_redis_call_duration_seconds_count{script=\"enqueue\"}", 7.0),
        ("drover_redis_call_failures_total{script=\"enqueue\",reason=\"unavailable\"}", 0.0),
        (&http_request_count("/v1/queues/{queue}/messages", "POST", "2xx"), 7.0),
        (&http_request_count("/v1/queues/{queue}/messages/{id}", "GET", "2xx"), 5.0),
        (&http_request_count("/v1/queues/{queue}", "GET", "4xx"), 1.0),
        (&http_request_count("unmatched", "GET", "4xx"), 3.0),
        (&http_request_count("/livez", "other", "4xx"), 1.0),
    ] {
        assert_eq!(api.get(series).to_string(), value.to_string(), "{series}");
    }
    let age = "drover_queue_oldest_waiting_age_seconds{queue=\"elsewhere\"}";
    assert!((0.0..60.0).contains(&api.get(age)) && api.get("process_resident_memory_bytes") > 1e6);
    assert!(!api.values.keys().any(|series| series.contains("nowhere") || series.contains("an-unknown-name")));

    // The worker counts an outcome after the answer of Redis, so the client that waits may get its answer earlier.
    let outcome = |outcome: &str| format!("drover_worker_outcomes_total{{queue=\"mails\",outcome=\"{outcome}\"}}");
    let worker_metrics = system.scrape_until(&worker, &outcome("failed"), 2.0).await;
    for (series, value) in [
        (outcome("completed").as_str(), 3.0),
        (&outcome("retried"), 1.0),
        (&outcome("released"), 0.0),
        (&outcome("lost"), 0.0),
        (&outcome("unsettled"), 0.0),
        // Five messages were leased, one message of them twice. For three of these five messages, the worker has a route with a handler.
        ("drover_worker_start_delay_seconds_count{queue=\"mails\"}", 5.0),
        ("drover_worker_handler_duration_seconds_count{queue=\"mails\"}", 3.0),
        ("drover_worker_concurrency{queue=\"mails\"}", 100.0),
    ] {
        assert_eq!(worker_metrics.get(series).to_string(), value.to_string(), "{series}");
    }
    system.scrape_until(&worker, "drover_worker_leases{queue=\"mails\"}", 0.0).await;
    assert!(
        !worker_metrics.values.keys().any(|series| series.contains("elsewhere")),
        "the worker does not serve that queue"
    );
    for (scraped, service) in [(&api, "producer-api"), (&worker_metrics, "consumer-worker")] {
        let info = format!("drover_build_info{{service=\"{service}\",version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_eq!(scraped.get(&info).to_string(), "1");
    }
}

#[tokio::test]
async fn start_delay_excludes_the_time_for_which_a_message_was_held() {
    let system = System::start(CONFIG).await;
    let (_worker, worker) = system.worker_and_url(&[]).await;
    let held_location = system.post("mails", json!({"data": 1, "name": "known", "hold": "k"})).await;
    let cancelled_location = system.post("mails", json!({"data": 1, "name": "known", "delay": "1h"})).await;
    system.request(Method::POST, &format!("{cancelled_location}/cancel"), None).await;
    // During the pause of 1.5 s, one message is held and the other message is cancelled, so the 1.5 s are no part of their start delays.
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    system.request(Method::POST, "/v1/queues/mails/signals/k", Some(json!({}))).await;
    system.request(Method::POST, &format!("{cancelled_location}/retry"), None).await;
    for location in [&held_location, &cancelled_location] {
        assert_eq!(system.finished(location).await["state"], "completed");
    }
    let delay_count = "drover_worker_start_delay_seconds_count{queue=\"mails\"}";
    let scraped_metrics = system.scrape_until(&worker, delay_count, 2.0).await;
    let delay_sum = scraped_metrics.get("drover_worker_start_delay_seconds_sum{queue=\"mails\"}");
    assert!(delay_sum < 1.5, "two messages that were not ready for 1.5 s waited {delay_sum} s for a worker");
}

fn http_request_count(route: &str, method: &str, status: &str) -> String {
    format!("drover_http_request_duration_seconds_count{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}")
}

#[tokio::test]
async fn metrics_of_the_process_are_served_without_metrics_of_queues_while_redis_is_down() {
    let mut system = System::start("").await;
    system.post("mails", json!({"data": 0})).await;
    system.redis.kill();
    let api = system.scrape_until(&system.base, "drover_queues_readable", 0.0).await;
    assert!(!api.values.contains_key("drover_queues"));
    assert!(!api.values.keys().any(|series| series.contains("mails")));
    assert_eq!(system.send("mails", &json!({"data": 0})).await.status(), 503);
    let failure_series = "drover_redis_call_failures_total{script=\"enqueue\",reason=\"unavailable\"}";
    let api = system.scrape_until(&system.base, failure_series, 1.0).await;
    assert_eq!(api.get(&http_request_count("/v1/queues/{queue}/messages", "POST", "5xx")).to_string(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_of_a_disconnected_client_is_counted_and_no_longer_in_flight() {
    let system = System::start("").await;
    let location = system.post("mails", json!({"data": 0})).await;
    let waiting_request = tokio::spawn(system.http.get(system.url(&format!("{location}?wait=60s"))).send());
    tokio::task::block_in_place(|| {
        eventually("the client waits", || {
            system.redis.command("EXISTS drover:{mails}:awaited").contains(":1").then_some(())
        });
    });
    waiting_request.abort();
    let disconnected = http_request_count("/v1/queues/{queue}/messages/{id}", "GET", "none");
    let api = system.scrape_until(&system.base, &disconnected, 1.0).await;
    assert_eq!(api.get("drover_http_requests_in_flight").to_string(), "1");
}

/// Returns the name, type and labels of each metric in a section of the document.
fn documented_metrics(page: &str, heading: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let metric_lines = section(page, heading).lines().filter_map(|line| line.strip_prefix("- `")?.split_once("` ("));
    metric_lines
        .map(|(name, rest)| {
            let types_and_labels = rest.split(')').next().unwrap();
            let (kind, labels) = types_and_labels.split_once(": ").unwrap_or((types_and_labels, ""));
            let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (name.to_owned(), (kind.to_owned(), labels))
        })
        .collect()
}

#[tokio::test]
async fn metrics_and_the_document_about_metrics_name_the_same_series() {
    let (system, _worker, worker) = start_busy_services().await;
    let observability_document = document("docs/OBSERVABILITY.md");
    let shared_metrics = documented_metrics(&observability_document, "Both services");
    // The API's metrics of queues may be a second old, and then lack queues that were just created.
    system.scrape_until(&system.base, "drover_queues", 2.0).await;
    for (base, heading) in [(&system.base, "producer-api"), (&worker, "consumer-worker")] {
        let mut expected = documented_metrics(&observability_document, heading);
        assert!(expected.len() >= 5 && shared_metrics.len() >= 5);
        expected.extend(shared_metrics.clone());
        let scraped = system.scrape(base).await;
        assert_eq!(scraped.types_and_labels(), expected, "{heading}");
        let failure_series =
            scraped.values.keys().filter(|series| series.starts_with("drover_redis_call_failures_total{"));
        let reasons = failure_series
            .filter_map(|series| Some(series.split_once("reason=\"")?.1.trim_end_matches("\"}").to_owned()));
        assert_eq!(reasons.collect::<BTreeSet<_>>(), reasons_of_failed_calls(&observability_document), "{heading}");
    }
}
