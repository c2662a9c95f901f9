//! Tests of one worker with many queues: patterns, order, and shared limits.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use consumer_worker::{Job, Outcome, Routes, any, config::Order};
use prometheus_client::{encoding::prometheus_text, registry::Registry};
use queue_core::{Millis, NewMessage, State};
use serde_json::value::to_raw_value;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{Notifications, Setup, TestWorker, completed_outcome};

impl TestWorker {
    async fn post_to(&self, queue: &str, data: &str) {
        let message = NewMessage::new(to_raw_value(data).unwrap());
        self.queues.queue(&queue.parse().unwrap()).enqueue(vec![message]).await.unwrap();
    }

    async fn wait_until_completed(&self, queue: &str, count: u64) {
        let queue = self.queues.queue(&queue.parse().unwrap());
        let wait_for_completion = async {
            while queue.status().await.unwrap().is_none_or(|status| status.totals.completed < count) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait_for_completion).await.unwrap();
    }

    /// Returns the value of one series in the metrics.
    fn metric_value(&self, series: &str) -> usize {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.metrics.register(&mut registry);
        prometheus_text::encode(&mut text, &registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{text}"));
        line.trim().parse().unwrap()
    }
}

const SERVED_QUEUES_METRIC: &str = r#"drover_worker_queues{queue="user-*"}"#;

#[tokio::test]
async fn queues_that_match_a_pattern_are_served_from_their_creation_to_their_deletion() {
    let fixture = Setup::default().start(Routes::new().route("user-*", |_: Job| async { completed_outcome() }));
    for round in 0..2 {
        for n in 0..20 {
            fixture.post_to(&format!("user-{n}"), "hello").await;
        }
        fixture.post_to("other", "hello").await;
        for n in 0..20 {
            fixture.wait_until_completed(&format!("user-{n}"), 1).await;
        }
        assert_eq!(
            fixture.metric_value(SERVED_QUEUES_METRIC),
            20,
            "only queues that match the pattern are served; round {round}"
        );
        for name in fixture.queues.names().await.unwrap() {
            fixture.queues.queue(&name).delete().await.unwrap();
        }
        while fixture.metric_value(SERVED_QUEUES_METRIC) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(fixture.queues.names().await.unwrap(), [], "a worker does not create a deleted queue again");
    }
    assert_eq!(fixture.metric_value(r#"drover_worker_leases{queue="user-*"}"#), 0);
    fixture.stop().await;
}

#[tokio::test]
async fn queue_deleted_while_its_handlers_run_is_served_again_when_it_is_created_again() {
    let handler = |job: Job| async move {
        if job.message().data.get() == "\"stuck\"" {
            std::future::pending::<()>().await;
        }
        completed_outcome()
    };
    // The heartbeat must stop the handler of the deleted queue. `shutdown_grace` is longer than the time limit of the
    // test, so its end does not stop the handler.
    let setup = Setup { shutdown_grace: Millis::from_secs(60), ..Setup::default() };
    let fixture = setup.start(Routes::new().route("user-*", handler));
    fixture.post_to("user-1", "stuck").await;
    while fixture.metric_value(r#"drover_worker_leases{queue="user-*"}"#) == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    fixture.queues.queue(&"user-1".parse().unwrap()).delete().await.unwrap();
    let begin_time = Instant::now();
    while fixture.metric_value(r#"drover_worker_outcomes_total{queue="user-*",outcome="lost"}"#) == 0 {
        assert!(begin_time.elapsed() < Duration::from_secs(20), "the handler of the deleted queue still runs");
        sleep(Duration::from_millis(5)).await;
    }
    fixture.post_to("user-1", "next").await;
    fixture.wait_until_completed("user-1", 1).await;
    fixture.stop().await;
}

#[tokio::test]
async fn queues_of_a_pattern_are_found_without_any_notification() {
    let setup = Setup { notifications: Notifications::Lost, poll_interval: Millis::new(150), ..Setup::default() };
    let fixture = setup.start(Routes::new().route("user-*", |_: Job| async { completed_outcome() }));
    for n in 0..5 {
        fixture.post_to(&format!("user-{n}"), "hello").await;
        fixture.wait_until_completed(&format!("user-{n}"), 1).await;
    }
    fixture.stop().await;
}

#[tokio::test]
async fn delayed_message_that_creates_a_queue_of_a_pattern_is_delivered_on_time() {
    let fixture = Setup::default().start(Routes::new().route("user-*", |_: Job| async { completed_outcome() }));
    let delay = Some(Millis::new(300).try_into().unwrap());
    let message = NewMessage { delay, ..NewMessage::new(to_raw_value("later").unwrap()) };
    let queue = fixture.queues.queue(&"user-1".parse().unwrap());
    let id = queue.enqueue(vec![message]).await.unwrap()[0].id().clone();
    fixture.wait_until_completed("user-1", 1).await;
    let message = queue.read(&[id]).await.unwrap().remove(0).unwrap();
    let start_delay = message.started_at.unwrap().since(message.due_at).get();
    assert!(message.state == State::Completed && start_delay < 2_000, "the message started {start_delay} ms late");
    fixture.stop().await;
}

#[tokio::test]
async fn later_queue_in_strict_order_waits_until_no_earlier_queue_has_ready_messages() {
    let delivery_order = Arc::new(Mutex::new(String::new()));
    let shared_order = Arc::clone(&delivery_order);
    let handler = move |job: Job| {
        let shared_order = Arc::clone(&shared_order);
        async move {
            sleep(Duration::from_millis(if job.queue().as_str() == "first" { 20 } else { 100 })).await;
            shared_order.lock().unwrap().push(if job.queue().as_str() == "first" { 'F' } else { 's' });
            completed_outcome()
        }
    };
    let setup = Setup { max_leases: 1, order: Order::Strict, ..Setup::default() };
    let fixture = setup.start(Routes::new().route("first", handler.clone()).route("second", handler));
    for _ in 0..4 {
        fixture.post_to("second", "x").await;
    }
    // The worker handles one message at a time, and leases messages of the first queue before messages of the second queue.
    for _ in 0..4 {
        fixture.post_to("first", "x").await;
    }
    fixture.wait_until_completed("second", 4).await;
    let delivery_order = delivery_order.lock().unwrap().clone();
    assert!(delivery_order == "sFFFFsss" || delivery_order == "FFFFssss", "{delivery_order}");
    fixture.stop().await;
}

#[tokio::test]
async fn leased_large_messages_stay_within_the_byte_limit() {
    let (running, max_running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let posts_done = CancellationToken::new();
    let shared_counters = (Arc::clone(&running), Arc::clone(&max_running), posts_done.clone());
    let handler = move |_: Job| {
        let (running, max_running, posts_done) = shared_counters.clone();
        async move {
            max_running.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            posts_done.cancelled().await;
            running.fetch_sub(1, Ordering::SeqCst);
            Outcome::complete(&())
        }
    };
    let setup = Setup { concurrency: 50, max_bytes: 8 << 20, ..Setup::default() };
    let fixture = setup.start(Routes::new().route("q", any(handler).concurrency(40)));
    let data = "x".repeat(1 << 20);
    for _ in 0..30 {
        fixture.post_to("q", &data).await;
    }
    posts_done.cancel();
    fixture.wait_until_completed("q", 30).await;
    let max_running = max_running.load(Ordering::SeqCst);
    assert!((3..=8).contains(&max_running), "messages of {max_running} MiB ran at once");
    assert_eq!(fixture.metric_value(r#"drover_worker_concurrency{queue="q"}"#), 40);
    fixture.stop().await;
}

#[tokio::test]
async fn invalid_routes_stop_the_start_of_a_worker() {
    for (routes, expected) in [
        (
            Routes::new().route("a b", |_: Job| async { completed_outcome() }),
            "the route of \"a b\": neither the name of a queue",
        ),
        (
            Routes::new().route("q", consumer_worker::on("", |_: Job| async { completed_outcome() })),
            "the name \"\" of a route",
        ),
        (Routes::new().route("q", any(|_: Job| async { completed_outcome() }).weight(0)), "must be 1 or more"),
        (
            Routes::new()
                .route("q*", |_: Job| async { completed_outcome() })
                .route("q*", |_: Job| async { completed_outcome() }),
            "the queue q* has two handlers for all messages: remove one",
        ),
        (
            Routes::new().route(
                "q",
                consumer_worker::on("a", |_: Job| async { completed_outcome() })
                    .on("a", |_: Job| async { completed_outcome() }),
            ),
            "the queue q has two handlers for messages named \"a\"",
        ),
    ] {
        let fixture = Setup::default().start(routes);
        let error = fixture.running.await.unwrap().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
