//! Measures the round trip of a call from the library to Redis, by the number of its messages: `make microbench`.
//!
//! Absolute times depend on the machine; compare the times of two runs on the same machine.

#![allow(clippy::unwrap_used, missing_docs)] // A failed unwrap is a failure of the bench.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use drover_tests::RedisServer;
use queue_core::{
    Action, ConsumerId, LeaseRequest, NewMessage, Queue, Queues, Redis, Settlement, State, settings::DeclaredSettings,
};
use serde_json::{json, value::to_raw_value};
use tokio::{runtime::Runtime, task::JoinSet};

/// The numbers of messages in a call: one, a typical number for a busy worker, and the maximum.
const MESSAGE_COUNTS: [usize; 3] = [1, 100, 1_000];

criterion_group! {
    name = scripts;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = bench_script_calls
}
criterion_main!(scripts);

fn bench_script_calls(criterion: &mut Criterion) {
    bench_message_counts(criterion, "enqueue", |queue, size| measure_time(|| queue.enqueue(size)).0);
    bench_message_counts(criterion, "post", |queue, size| measure_time(|| queue.post(size)).0);
    bench_message_counts(criterion, "lease", |queue, size| {
        queue.enqueue(size);
        let (elapsed, settlements) = measure_time(|| queue.lease(size));
        queue.settle(&settlements);
        elapsed
    });
    bench_message_counts(criterion, "settle", |queue, size| {
        queue.enqueue(size);
        let settlements = queue.lease(size);
        measure_time(|| queue.settle(&settlements)).0
    });
}

/// Measures `call` with each number of messages in [`MESSAGE_COUNTS`], each on a new Redis. `call` returns the time that it has
/// measured.
fn bench_message_counts(criterion: &mut Criterion, name: &str, call: impl Fn(&TestQueue, usize) -> Duration) {
    let mut group = criterion.benchmark_group(name);
    for size in MESSAGE_COUNTS {
        let queue = TestQueue::new();
        group.throughput(Throughput::Elements(size.try_into().unwrap()));
        group.bench_with_input(BenchmarkId::from_parameter(size), &size, |bencher, size| {
            bencher.iter_custom(|iterations| (0..iterations).map(|_| call(&queue, *size)).sum());
        });
    }
    group.finish();
}

fn measure_time<T>(call: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = call();
    (start.elapsed(), result)
}

/// A queue with the default settings on its own Redis.
struct TestQueue {
    runtime: Runtime,
    queue: Arc<Queue>,
    consumer: ConsumerId,
    _redis: RedisServer,
}

impl TestQueue {
    fn new() -> Self {
        let redis = RedisServer::start();
        let queues =
            Queues::new(Redis::new(&redis.url(), Redis::DEFAULT_TIME_LIMIT).unwrap(), DeclaredSettings::default());
        let queue = queues.queue(&"my-queue".parse().unwrap());
        Self { runtime: Runtime::new().unwrap(), queue, consumer: ConsumerId::issue(), _redis: redis }
    }

    fn enqueue(&self, size: usize) {
        let enqueue_outcomes = self.runtime.block_on(self.queue.enqueue(vec![sample_message(); size])).unwrap();
        assert_eq!(enqueue_outcomes.len(), size);
    }

    /// Posts messages concurrently, one per call.
    fn post(&self, size: usize) {
        self.runtime.block_on(async {
            let mut posts = JoinSet::new();
            for _ in 0..size {
                let queue = Arc::clone(&self.queue);
                posts.spawn(async move { queue.post(sample_message()).await });
            }
            let post_results = posts.join_all().await;
            assert!(post_results.iter().all(Result::is_ok));
        });
    }

    fn lease(&self, size: usize) -> Vec<Settlement> {
        let request = LeaseRequest::new(self.consumer.clone(), size);
        let lease_reply = self.runtime.block_on(self.queue.lease(&request)).unwrap();
        assert_eq!(lease_reply.deliveries.len(), size);
        let completion = Action::Complete(to_raw_value("processed").unwrap());
        lease_reply
            .deliveries
            .into_iter()
            .map(|delivery| Settlement { lease: delivery.lease, action: completion.clone() })
            .collect()
    }

    fn settle(&self, settlements: &[Settlement]) {
        let settle_outcomes = self.runtime.block_on(self.queue.settle(settlements)).unwrap();
        assert!(settle_outcomes.iter().all(|settle_outcomes| *settle_outcomes == Some(State::Completed)));
    }
}

/// Makes a message with about 160 bytes of data, as in `make bench`.
fn sample_message() -> NewMessage {
    let payload = json!({"to": "user@example.com", "subject": "hello", "n": 1, "body": "x".repeat(100)});
    NewMessage::new(to_raw_value(&payload).unwrap())
}
