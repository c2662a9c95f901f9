//! Tests of leasing ahead: messages are leased before a handler slot is free.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use consumer_worker::{Job, Outcome};
use queue_core::State;
use serde_json::json;
use tokio::time::sleep;

use crate::{TestWorker, completed_outcome, start_with};

/// Settings that make a queue keep all completed messages.
const KEEP_ALL_COMPLETED: &str = r#"{"retention":{"completed":{"count":100000}}}"#;

/// A handler that takes a few microseconds, or hangs while `hang` is set. The fields of `Handlers` count how many handlers
/// run at once.
#[derive(Default)]
struct Handlers {
    running: AtomicUsize,
    max_running: AtomicUsize,
    ended: AtomicUsize,
    hang: AtomicBool,
}

impl Handlers {
    async fn handle(self: Arc<Self>) -> Outcome {
        self.max_running.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        while self.hang.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.ended.fetch_add(1, Ordering::SeqCst);
        completed_outcome()
    }

    /// Starts a worker that runs at most `concurrency` handlers at once, and posts `messages` messages.
    async fn start(self: &Arc<Self>, settings: &str, concurrency: usize, messages: u64) -> TestWorker {
        let handlers = Arc::clone(self);
        let fixture = start_with(settings, concurrency, move |_: Job| Arc::clone(&handlers).handle());
        for _ in 0..messages / 1_000 {
            fixture.post(1_000).await;
        }
        fixture
    }

    /// Waits until `count` handlers have ended. Returns the highest number of leases that the test saw.
    async fn wait_until_ended(&self, fixture: &TestWorker, count: usize) -> u64 {
        let mut max_leases = 0;
        while self.ended.load(Ordering::SeqCst) < count {
            max_leases = max_leases.max(active_count(fixture).await);
        }
        max_leases
    }
}

async fn active_count(fixture: &TestWorker) -> u64 {
    fixture.queue.status().await.unwrap().unwrap().counts.active
}

#[tokio::test]
async fn short_handlers_lease_ahead_and_no_more_than_concurrency_run_at_once() {
    let handlers = Arc::new(Handlers::default());
    let fixture = handlers.start(KEEP_ALL_COMPLETED, 4, 20_000).await;
    let max_leases = handlers.wait_until_ended(&fixture, 20_000).await;
    // Without leasing ahead, there would be only the leases of 4 running handlers, and of ended handlers whose leases are not
    // settled yet.
    assert!(max_leases > 40, "{max_leases} leases at once");
    assert_eq!(handlers.max_running.load(Ordering::SeqCst), 4);
    fixture.stop().await;
}

#[tokio::test]
async fn messages_that_do_not_start_soon_return_to_their_queue() {
    let handlers = Arc::new(Handlers::default());
    let fixture = handlers.start(KEEP_ALL_COMPLETED, 4, 20_000).await;
    handlers.wait_until_ended(&fixture, 5_000).await;
    handlers.hang.store(true, Ordering::SeqCst);
    // The test's worker runs four handlers at once. The four handlers hang, so they keep their leases.
    while active_count(&fixture).await != 4 || handlers.running.load(Ordering::SeqCst) != 4 {
        sleep(Duration::from_millis(5)).await;
    }
    handlers.hang.store(false, Ordering::SeqCst);
    handlers.wait_until_ended(&fixture, 20_000).await;
    assert_delivered_once(fixture).await;
}

#[tokio::test]
async fn a_worker_that_stops_returns_messages_that_it_has_not_started() {
    let handlers = Arc::new(Handlers::default());
    let fixture = handlers.start(KEEP_ALL_COMPLETED, 4, 20_000).await;
    handlers.wait_until_ended(&fixture, 5_000).await;
    handlers.hang.store(true, Ordering::SeqCst);
    let (queue, _redis) = fixture.stop().await;
    // The worker runs at most four handlers at once, so at most four handlers hung. The worker dropped the handlers
    // that hung after its `shutdown_grace`.
    let counts = queue.status().await.unwrap().unwrap().counts;
    assert_eq!(counts.active, 0);
    let waiting_messages = queue.list(State::Waiting, 1_000, None).await.unwrap().messages;
    let delivered_count = waiting_messages.iter().filter(|message| message.deliveries > 0).count();
    assert!(
        delivered_count <= 4 && waiting_messages.iter().all(|message| message.lapses == 0),
        "{delivered_count} messages were delivered"
    );
}

#[tokio::test]
async fn a_paused_queue_keeps_no_message_that_has_not_started() {
    let handlers = Arc::new(Handlers::default());
    let fixture = handlers.start(KEEP_ALL_COMPLETED, 4, 20_000).await;
    handlers.wait_until_ended(&fixture, 5_000).await;
    fixture.queue.pause().await.unwrap();
    while active_count(&fixture).await > 0 {
        sleep(Duration::from_millis(5)).await;
    }
    let ended_count = handlers.ended.load(Ordering::SeqCst);
    assert!(ended_count < 20_000, "the queue was paused too late");
    fixture.queue.resume().await.unwrap();
    handlers.wait_until_ended(&fixture, 20_000).await;
    assert_delivered_once(fixture).await;
}

#[tokio::test]
async fn exclusive_and_limited_queues_lease_nothing_ahead() {
    let exclusive_settings = json!({"exclusive": {"parallel": 2}});
    let rate_limit_settings = json!({"rate_limit": {"max": 1_000_000, "duration": 1_000}});
    let timeout_settings = json!({"timeout": 60_000});
    let one_lapse_settings = json!({"max_lapses": 1});
    for (settings, max_running) in
        [(exclusive_settings, 2), (rate_limit_settings, 4), (timeout_settings, 4), (one_lapse_settings, 4)]
    {
        let handlers = Arc::new(Handlers::default());
        let fixture = handlers.start(&settings.to_string(), 4, 4_000).await;
        handlers.wait_until_ended(&fixture, 2_000).await;
        handlers.hang.store(true, Ordering::SeqCst);
        while handlers.running.load(Ordering::SeqCst) < max_running || active_count(&fixture).await > max_running as u64
        {
            sleep(Duration::from_millis(5)).await;
        }
        // If a message had been leased ahead, the worker would return it to the queue within 200 ms, and the value of the message
        // in the Redis hash `runs` would contain `bw`: undone (b) by `undo_leases`, and waiting (w).
        sleep(Duration::from_millis(200)).await;
        let runs = fixture.redis.command("HVALS drover:{q}:runs");
        assert!(!runs.contains("\tbw"), "{settings}: {runs:.500}");
        handlers.hang.store(false, Ordering::SeqCst);
        fixture.stop().await;
    }
}

async fn assert_delivered_once(fixture: TestWorker) {
    let (queue, _redis) = fixture.stop().await;
    let status = queue.status().await.unwrap().unwrap();
    assert_eq!((status.totals.completed, status.totals.lapsed, status.totals.retried), (20_000, 0, 0));
}
