//! Measures the processor time that each message or request takes outside the calls to Redis: `make microbench`.
//!
//! The bench `hot_paths` covers only public functions. The bench `scripts` includes the work inside a call: encoding arguments
//! and decoding replies.

#![allow(clippy::unwrap_used, missing_docs)] // A failed unwrap is a failure of the bench.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use drover_tests::RedisServer;
use queue_core::{Enqueued, LeaseToken, Message, NewMessage, QueueName, Queues, Redis, settings::DeclaredSettings};
use serde_json::{json, value::to_raw_value};
use tokio::runtime::Runtime;

criterion_group! {
    name = hot_paths;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = for_each_message, for_each_request
}
criterion_main!(hot_paths);

fn for_each_message(criterion: &mut Criterion) {
    let message = stored_message();
    criterion.bench_function("a message to JSON", |bencher| {
        bencher.iter(|| serde_json::to_vec(black_box(&message)).unwrap());
    });
    criterion.bench_function("parse a lease token", |bencher| {
        bencher.iter(|| black_box("21718923400017-c3RyYW5nZXJzIGd1ZXNzIQ").parse::<LeaseToken>().unwrap());
    });
}

fn for_each_request(criterion: &mut Criterion) {
    // The bench of requests sends no command, so its Redis need not exist.
    let queues =
        Queues::new(Redis::new("redis://127.0.0.1:1", Redis::DEFAULT_TIME_LIMIT).unwrap(), DeclaredSettings::default());
    criterion.bench_function("a queue by its name", |bencher| {
        bencher.iter(|| queues.queue(&black_box("my-queue").parse::<QueueName>().unwrap()));
    });
}

/// A message as the API returns it, stored in a real Redis.
fn stored_message() -> Message {
    let redis = RedisServer::start();
    let queues = Queues::new(Redis::new(&redis.url(), Redis::DEFAULT_TIME_LIMIT).unwrap(), DeclaredSettings::default());
    let payload = json!({"to": "user@example.com", "subject": "hello", "n": 1, "body": "x".repeat(100)});
    let message = NewMessage::new(to_raw_value(&payload).unwrap());
    let queue = queues.queue(&"my-queue".parse().unwrap());
    match Runtime::new().unwrap().block_on(queue.enqueue(vec![message])).unwrap().remove(0) {
        Enqueued::Created(message) => message,
        other => panic!("the message was stored before: {other:?}"),
    }
}
