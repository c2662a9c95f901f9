//! Tests of the worker's runtime with test handlers, against a real Redis.

#![allow(clippy::unwrap_used)] // An `unwrap` that panics fails its test.

mod blocking;
mod leasing_ahead;
mod queues;
mod stopping;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use consumer_worker::{
    IntoRoute, Job, Outcome, Routes, Worker, WorkerError, WorkerMetrics,
    config::{self, Order},
};
use drover_tests::RedisServer;
use queue_core::{
    ConsumerId, Message, MessageRef, Millis, NewMessage, Queue, QueueName, Queues, Redis, State, wakeup::Subscriber,
};
use serde_json::{json, value::to_raw_value};
use service::Stop;
use tokio::{task::JoinHandle, time::sleep};

struct TestWorker {
    redis: RedisServer,
    _other_redis: Option<RedisServer>,
    queues: Queues,
    queue: Arc<Queue>,
    subscriber: Subscriber,
    metrics: WorkerMetrics,
    stop: Stop,
    running: JoinHandle<Result<(), WorkerError>>,
}

/// Starts a worker with a visibility timeout of 1 s and a grace of 1 s.
fn start<A>(concurrency: usize, handler: impl IntoRoute<(), A>) -> TestWorker {
    start_with(r#"{"visibility_timeout":1000,"max_attempts":1}"#, concurrency, handler)
}

/// Starts a worker with these settings of its queue.
fn start_with<A>(settings: &str, concurrency: usize, handler: impl IntoRoute<(), A>) -> TestWorker {
    Setup { settings, concurrency, ..Setup::default() }.start(Routes::new().route("q", handler))
}

/// The time limit of calls to Redis in these tests. The tests give a call to Redis more time than the default of
/// `redis.timeout`, because the machine may be busy.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The configuration of the worker of a test.
struct Setup<'s> {
    settings: &'s str,
    concurrency: usize,
    max_leases: usize,
    max_bytes: usize,
    order: Order,
    poll_interval: Millis,
    notifications: Notifications,
    shutdown_grace: Millis,
}

/// Whether the worker of a test receives the notifications of Redis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notifications {
    Received,
    /// The worker receives no notification, because its subscriber is connected to another Redis server.
    Lost,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            settings: "{}",
            concurrency: 10,
            max_leases: 1_000,
            max_bytes: 64 << 20,
            order: Order::Weighted,
            poll_interval: Millis::from_secs(3_600),
            notifications: Notifications::Received,
            shutdown_grace: Millis::from_secs(1),
        }
    }
}

impl Setup<'_> {
    fn start(self, routes: Routes) -> TestWorker {
        let redis = RedisServer::start();
        let other_redis = (self.notifications == Notifications::Lost).then(RedisServer::start);
        let name: QueueName = "q".parse().unwrap();
        let settings = serde_json::from_str(self.settings).unwrap();
        let connections = Redis::new(&redis.url(), TIME_LIMIT).unwrap();
        let notifying_redis = Redis::new(&other_redis.as_ref().unwrap_or(&redis).url(), TIME_LIMIT).unwrap();
        let queues = Queues::new(connections.clone(), [(name.clone(), settings)].into_iter().collect());
        let queue = queues.queue(&name);
        let stop = Stop::default();
        let metrics = WorkerMetrics::for_routes(&routes);
        let worker = Worker {
            metrics: metrics.clone(),
            queues: queues.clone(),
            subscriber: routes.subscriber(notifying_redis),
            routes,
            consumer: ConsumerId::issue(),
            config: config::Worker {
                bind: "127.0.0.1:0".to_owned().try_into().unwrap(),
                concurrency: self.concurrency,
                max_leases: self.max_leases,
                max_bytes: self.max_bytes,
                order: self.order,
                poll_interval: self.poll_interval.try_into().unwrap(),
                shutdown_grace: self.shutdown_grace.try_into().unwrap(),
                routes: Vec::new(),
            },
        };
        let running = tokio::spawn(worker.run(stop.clone()));
        // The test has its own subscriber, so it receives every notification.
        let subscriber = Subscriber::new(connections);
        tokio::spawn({
            let subscriber = subscriber.clone();
            async move { subscriber.keep_connected().await }
        });
        TestWorker { redis, _other_redis: other_redis, queues, queue, subscriber, metrics, stop, running }
    }
}

impl TestWorker {
    async fn post(&self, count: u64) -> Vec<MessageRef> {
        let messages = (0..count).map(|n| NewMessage::new(to_raw_value(&n).unwrap())).collect();
        let enqueue_outcomes = self.queue.enqueue(messages).await.unwrap();
        enqueue_outcomes.into_iter().map(|enqueue_outcomes| enqueue_outcomes.id().clone()).collect()
    }

    async fn wait_until_finished(&self, id: &MessageRef) -> Message {
        let max_wait = Millis::from_secs(20);
        let message = self.queue.read_when_finished(id, max_wait, &self.subscriber).await.unwrap().unwrap();
        assert!(message.state.is_final(), "{message:?}");
        message
    }

    async fn stop(self) -> (Arc<Queue>, RedisServer) {
        self.stop.gracefully.cancel();
        self.running.await.unwrap().unwrap();
        assert_eq!(self.queue.audit().await.unwrap().findings, []);
        (self.queue, self.redis)
    }
}

/// Waits until `count` messages are active.
async fn wait_until_active(fixture: &TestWorker, count: u64) {
    while fixture.queue.status().await.unwrap().unwrap().counts.active < count {
        sleep(Duration::from_millis(5)).await;
    }
}

fn completed_outcome() -> Outcome {
    Outcome::Complete(to_raw_value("done").unwrap())
}

#[tokio::test]
async fn leases_are_extended_while_handlers_run() {
    let fixture = start(10, |_: Job| async {
        sleep(Duration::from_secs(3)).await;
        completed_outcome()
    });
    for id in fixture.post(10).await {
        let message = fixture.wait_until_finished(&id).await;
        assert_eq!((message.state, message.deliveries, message.lapses), (State::Completed, 1, 0));
    }
    fixture.stop().await;
}

#[tokio::test]
async fn message_whose_handler_runs_while_timeouts_become_shorter_is_handled_once() {
    for exclusive in [false, true] {
        let running = Arc::new(AtomicUsize::new(0));
        let max_running = Arc::new(AtomicUsize::new(0));
        let handler = {
            let (running, max_running) = (Arc::clone(&running), Arc::clone(&max_running));
            move |_: Job| {
                let (running, max_running) = (Arc::clone(&running), Arc::clone(&max_running));
                async move {
                    max_running.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    sleep(Duration::from_secs(2)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    completed_outcome()
                }
            }
        };
        let settings = format!(r#"{{"timeout":"60s","exclusive":{exclusive}}}"#);
        let fixture = start_with(&settings, 10, handler);
        let id = fixture.post(1).await.remove(0);
        wait_until_active(&fixture, 1).await;
        let shorter_timeouts = json!({"visibility_timeout": 100, "timeout": 300});
        fixture.queue.configure(&shorter_timeouts).await.unwrap();
        let message = fixture.wait_until_finished(&id).await;
        assert_eq!((message.state, message.deliveries, message.lapses), (State::Completed, 1, 0));
        assert_eq!(max_running.load(Ordering::SeqCst), 1, "the handler runs twice at the same time");
        fixture.stop().await;
    }
}

#[tokio::test]
async fn worker_that_receives_no_notification_completes_all_messages() {
    let settings =
        r#"{"visibility_timeout":1500,"max_attempts":3,"backoff":{"type":"fixed","delay":20},"timeout":1000}"#;
    let handler = |job: Job| async move {
        match (job.message().data.get(), job.attempt()) {
            ("1", 1) => Outcome::Retry(queue_core::Failure::new("odd", "the first attempt")),
            ("2", 1) => std::future::pending().await,
            _ => completed_outcome(),
        }
    };
    let setup = Setup {
        settings,
        concurrency: 5,
        poll_interval: Millis::new(150),
        notifications: Notifications::Lost,
        ..Setup::default()
    };
    let fixture = setup.start(Routes::new().route("q", handler));
    let mut ids = fixture.post(4).await;
    let new = |data: u64| NewMessage::new(to_raw_value(&data).unwrap());
    let delay = Some(Millis::new(100).try_into().unwrap());
    let hold_key = Some("k".parse().unwrap());
    let later_messages = vec![NewMessage { delay, ..new(5) }, NewMessage { hold: hold_key, ..new(6) }];
    ids.extend(fixture.queue.enqueue(later_messages).await.unwrap().iter().map(|enqueued| enqueued.id().clone()));
    fixture.queue.signal(&"k".parse().unwrap(), &queue_core::Signal::default()).await.unwrap();
    fixture.queue.pause().await.unwrap();
    ids.extend(fixture.post(3).await);
    fixture.queue.resume().await.unwrap();
    for _ in 0..1_000 {
        let messages = fixture.queue.read(&ids).await.unwrap();
        if messages.iter().flatten().all(|message| message.state == State::Completed) {
            fixture.stop().await;
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not all messages were completed: {:?}", fixture.queue.status().await);
}

#[tokio::test]
async fn lease_does_not_lapse_when_the_visibility_timeout_of_its_queue_becomes_longer() {
    let fixture = start(2, |_: Job| async {
        sleep(Duration::from_secs(3)).await;
        completed_outcome()
    });
    let ids = fixture.post(1).await;
    wait_until_active(&fixture, 1).await;
    fixture.queue.configure(&serde_json::json!({"visibility_timeout": "1m"})).await.unwrap();
    let message = fixture.wait_until_finished(&ids[0]).await;
    assert_eq!((message.deliveries, message.lapses), (1, 0));
    fixture.stop().await;
}

#[tokio::test]
async fn exactly_concurrency_handlers_run_at_once() {
    let (running, max_running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let max_running_seen = Arc::clone(&max_running);
    let fixture = start(7, move |_: Job| {
        let (running, max_running) = (Arc::clone(&running), Arc::clone(&max_running));
        async move {
            max_running.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            completed_outcome()
        }
    });
    for id in fixture.post(100).await {
        fixture.wait_until_finished(&id).await;
    }
    assert_eq!(max_running_seen.load(Ordering::SeqCst), 7);
    fixture.stop().await;
}

#[tokio::test]
async fn panic_of_a_handler_fails_only_its_own_message() {
    let fixture = start(2, |job: Job| {
        assert_ne!(job.message().data.get(), "0", "before the future");
        async move {
            assert_ne!(job.message().data.get(), "1", "in the future");
            completed_outcome()
        }
    });
    let ids = fixture.post(20).await;
    for (n, id) in ids.iter().enumerate() {
        let message = fixture.wait_until_finished(id).await;
        assert_eq!(message.state, if n < 2 { State::Failed } else { State::Completed });
        if n < 2 {
            let error = message.error.unwrap();
            assert_eq!(error.code, "panicked");
            assert!(error.message.contains("the future"), "{}", error.message);
        }
    }
    fixture.stop().await;
}

#[tokio::test]
async fn readers_see_the_progress_that_a_handler_reports() {
    let fixture = start(1, |job: Job| async move {
        let report = serde_json::json!({"percent": 40, "note": "half-way ✅"});
        job.report_progress(&report).await.unwrap();
        job.stop().cancelled().await;
        completed_outcome()
    });
    let ids = fixture.post(1).await;
    let progress = loop {
        let message = fixture.queue.read(&ids).await.unwrap().remove(0).unwrap();
        if let Some(progress) = message.progress {
            break progress;
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(progress.get(), r#"{"note":"half-way ✅","percent":40}"#);
    fixture.queue.cancel(&ids[0]).await.unwrap();
    let message = fixture.wait_until_finished(&ids[0]).await;
    assert_eq!(message.state, State::Completed);
    assert!(message.progress.is_some(), "the progress stays with the message");
    fixture.stop().await;
}

#[tokio::test]
async fn handlers_that_outlast_the_grace_release_their_messages_with_no_attempt_spent() {
    let fixture = start(3, |job: Job| async move {
        let ends_in_time = job.message().data.get() == "0";
        sleep(Duration::from_millis(if ends_in_time { 250 } else { 60_000 })).await;
        completed_outcome()
    });
    let ids = fixture.post(5).await;
    wait_until_active(&fixture, 3).await;
    let (queue, _redis) = fixture.stop().await;
    let messages: Vec<Message> = queue.read(&ids).await.unwrap().into_iter().flatten().collect();
    let states: Vec<State> = messages.iter().map(|message| message.state).collect();
    assert_eq!(states, [State::Completed, State::Waiting, State::Waiting, State::Waiting, State::Waiting]);
    assert!(messages[1..].iter().all(|message| message.attempts_made == 0 && message.lapses == 0));
    // The released messages are ready at once, before their leases would have lapsed, and in the order in which they
    // were posted.
    let request = queue_core::LeaseRequest::new(ConsumerId::issue(), 10);
    let second_deliveries = queue.lease(&request).await.unwrap().deliveries;
    assert_eq!(second_deliveries.iter().map(|delivery| delivery.message.id.clone()).collect::<Vec<_>>(), ids[1..]);
}
