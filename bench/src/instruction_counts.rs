//! Counts with callgrind the instructions that the API executes per POST, the worker per drained message, and Redis per
//! message, and compares the counts with bounds.
//!
//! Unlike times, counts of instructions hardly depend on other load of the machine, so CI can tell a regression from noise.

use std::time::Duration;

use drover_tests::RedisServer;
use queue_core::{
    Action, ConsumerId, Delivery, LeaseRequest, Queue, Queues, Redis, Settlement, State, settings::DeclaredSettings,
};
use serde_json::value::to_raw_value;
use tokio::runtime::Runtime;

use crate::{
    Error, Result,
    callgrind::Callgrind,
    drover::{self, BATCH_SIZE, Drover, QUEUE},
    figures::format_number,
    load::{self, Until, to_f64},
    service::Service,
};

/// The upper bound of each figure: 1.15 times the count when the bound was set. The margin of 15 % allows for other versions of
/// Redis, Rust and the C library, and for other processors; on one machine a figure varies by 2 %. A change of the code that lowers
/// a count also lowers the count's bound. A change of the code that needs a higher bound raises the bound, and the commit message
/// says why.
const COUNT_BOUNDS: [(&str, f64); 10] = [
    ("API, a POST, 50 connections", 62_000.0),
    ("API, a POST, 1 connection", 96_000.0),
    ("worker, a message drained", 25_700.0),
    ("Redis, a message enqueued, 1,000 a call", 21_100.0),
    ("Redis, a message leased, 1,000 a call", 21_000.0),
    ("Redis, a message settled, 1,000 a call", 20_400.0),
    ("Redis, a message enqueued alone", 219_000.0),
    ("Redis, a message leased alone", 324_000.0),
    ("Redis, a message settled alone", 284_000.0),
    ("Redis, a lease call that finds nothing", 280_000.0),
];

/// The time limit of a call to Redis: a long time, because a process under callgrind is about fifty times slower.
const REDIS_TIME_LIMIT: Duration = Duration::from_secs(60);

/// Counts the instructions, prints every figure with its bound, and fails if a figure exceeds its bound.
pub(crate) fn check_counts() -> Result<()> {
    let mut measured_counts = vec![count_post(50, 2_000)?, count_post(1, 1_000)?, count_drained_message(6_000)?];
    measured_counts.extend(count_redis_instructions()?);
    println!("| instructions | counted | at most |\n|---|---:|---:|");
    let mut exceeded_bounds = Vec::new();
    for ((figure, bound), count) in COUNT_BOUNDS.into_iter().zip(measured_counts) {
        println!("| {figure} | {} | {} |", format_number(count), format_number(bound));
        if count > bound {
            exceeded_bounds.push(figure);
        }
    }
    if exceeded_bounds.is_empty() {
        Ok(())
    } else {
        Err(format!("these counts exceed their bounds: {}", exceeded_bounds.join("; ")).into())
    }
}

/// Counts the API's instructions per POST of one message. `count_post` sends two loads over equally many connections; the second load has
/// twice as many requests. The difference of the two counts excludes the cost of accepting the connections.
fn count_post(connections: usize, posts: usize) -> Result<f64> {
    let drover = Drover::with_redis(RedisServer::start())?;
    let mut callgrind = Callgrind::new()?;
    let mut api = Service::drover_under_callgrind(&callgrind, "producer-api", &drover.url(), &service_environment())?;
    api.ignore_log();
    let mut count_load = |posts| {
        let requests = vec![drover::single_post(&format!("/v1/queues/{QUEUE}/messages")); posts];
        let enqueued_before = drover.queue_status()?.totals.enqueued;
        let send_load = || load::send_load(api.address(), requests, connections, Until::AllSent);
        let (instructions, _) = callgrind.count_instructions(api.pid(), send_load)?;
        drover.check_stored(enqueued_before, posts)?;
        Ok::<_, Error>(instructions)
    };
    count_load(posts / 4)?;
    let (once, twice) = (count_load(posts)?, count_load(2 * posts)?);
    instructions_per_message(twice.saturating_sub(once), posts)
}

/// Counts the worker's instructions per message, from the lease to the recorded result, with the handler `log`.
fn count_drained_message(messages: usize) -> Result<f64> {
    let drover = Drover::with_redis(RedisServer::start())?;
    let mut callgrind = Callgrind::new()?;
    let mut env = service_environment();
    env.extend([("DROVER__WORKER__CONCURRENCY", BATCH_SIZE.to_string()), ("DROVER__LOG__FILTER", "warn".into())]);
    let mut worker = Service::drover_under_callgrind(&callgrind, "consumer-worker", &drover.url(), &env)?;
    worker.ignore_log();
    let mut count_drain = |messages| {
        drover.enqueue_paused(messages)?;
        callgrind.count_instructions(worker.pid(), || drover.drain_paused(messages))
    };
    count_drain(messages / 4)?;
    instructions_per_message(count_drain(messages)?.0, messages)
}

/// The number of lease calls that the bench makes on an empty queue.
const EMPTY_LEASE_CALLS: usize = 100;

/// Counts the instructions of Redis per message that is enqueued, leased and settled, in batches of 1,000 and alone, and per lease
/// call that finds nothing.
fn count_redis_instructions() -> Result<Vec<f64>> {
    let mut callgrind = Callgrind::new()?;
    let mut redis = Service::redis_under_callgrind(&callgrind)?;
    redis.ignore_log();
    let runtime = Runtime::new()?;
    let queues = Queues::new(
        Redis::new(&format!("redis://{}", redis.address()), REDIS_TIME_LIMIT)?,
        DeclaredSettings::default(),
    );
    let queue = queues.queue(&QUEUE.parse()?);
    let consumer = ConsumerId::issue();
    let mut measured_counts = Vec::new();
    for (calls, size) in [(10, BATCH_SIZE), (100, 1)] {
        // The first calls also open connections and load scripts, so their instructions are not counted.
        let first_calls = async {
            enqueue_batches(&queue, 1, size).await?;
            let settlements = lease_batches(&queue, &consumer, 1, size).await?;
            settle_batches(&queue, &settlements, size).await
        };
        runtime.block_on(first_calls)?;
        let (enqueued, ()) =
            callgrind.count_instructions(redis.pid(), || runtime.block_on(enqueue_batches(&queue, calls, size)))?;
        let (leased, settlements) = callgrind
            .count_instructions(redis.pid(), || runtime.block_on(lease_batches(&queue, &consumer, calls, size)))?;
        let (settled, ()) = callgrind
            .count_instructions(redis.pid(), || runtime.block_on(settle_batches(&queue, &settlements, size)))?;
        for instructions in [enqueued, leased, settled] {
            measured_counts.push(instructions_per_message(instructions, calls * size)?);
        }
    }
    let (empty, ()) = callgrind.count_instructions(redis.pid(), || {
        runtime.block_on(async {
            for _ in 0..EMPTY_LEASE_CALLS {
                let lease_reply = queue.lease(&LeaseRequest::new(consumer.clone(), BATCH_SIZE)).await?;
                if !lease_reply.deliveries.is_empty() {
                    return Err("messages were leased from an empty queue".into());
                }
            }
            Ok(())
        })
    })?;
    measured_counts.push(instructions_per_message(empty, EMPTY_LEASE_CALLS)?);
    Ok(measured_counts)
}

/// Enqueues messages with this many calls, each with `size` messages.
async fn enqueue_batches(queue: &Queue, calls: usize, size: usize) -> Result<()> {
    for _ in 0..calls {
        let batch = (0..size).map(|n| drover::new_message(n, None)).collect::<Result<_>>()?;
        queue.enqueue(batch).await?;
    }
    Ok(())
}

/// Leases messages with this many calls, each for `size` messages, and returns the settlements that complete the messages.
async fn lease_batches(queue: &Queue, consumer: &ConsumerId, calls: usize, size: usize) -> Result<Vec<Settlement>> {
    let action = Action::Complete(to_raw_value("processed ✅")?);
    let mut settlements = Vec::new();
    for _ in 0..calls {
        let lease_reply = queue.lease(&LeaseRequest::new(consumer.clone(), size)).await?;
        if lease_reply.deliveries.len() != size {
            return Err(format!("{} of {size} messages were leased", lease_reply.deliveries.len()).into());
        }
        let completion = |delivery: Delivery| Settlement { lease: delivery.lease, action: action.clone() };
        settlements.extend(lease_reply.deliveries.into_iter().map(completion));
    }
    Ok(settlements)
}

/// Settles leases with calls of `size` leases each.
async fn settle_batches(queue: &Queue, settlements: &[Settlement], size: usize) -> Result<()> {
    for batch in settlements.chunks(size) {
        let settle_outcomes = queue.settle(batch).await?;
        if !settle_outcomes.iter().all(|settle_outcomes| *settle_outcomes == Some(State::Completed)) {
            return Err("not all leased messages were completed".into());
        }
    }
    Ok(())
}

/// The environment of a counted service: a long time limit for Redis, and the same number of threads on every machine.
fn service_environment() -> Vec<(&'static str, String)> {
    vec![("DROVER__REDIS__TIMEOUT", format!("{}s", REDIS_TIME_LIMIT.as_secs())), ("TOKIO_WORKER_THREADS", "2".into())]
}

fn instructions_per_message(instructions: u64, messages: usize) -> Result<f64> {
    Ok(to_f64(usize::try_from(instructions)?) / to_f64(messages))
}
