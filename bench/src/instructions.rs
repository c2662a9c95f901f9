//! Instructions, counted by callgrind: what a POST costs the API, a drained message the worker, and either of them Redis.
//!
//! Unlike times they hardly depend on what else the machine does, so that CI can tell a regression from noise.

use std::time::Duration;

use drover_tests::RedisServer;
use queue_core::{Action, ConsumerId, DeclaredSettings, LeaseRequest, Queue, Queues, Redis, Settlement, State};
use serde_json::value::to_raw_value;
use tokio::runtime::Runtime;

use crate::{
    Error, Result,
    callgrind::Callgrind,
    drover::{self, BATCH, Drover, QUEUE},
    figures::human,
    load::{self, Until, count},
    service::Service,
};

/// What no figure may be beyond: 1.3 times what it was when this was set. The margin is for other versions of Redis, Rust and
/// the C library, and for other processors; on one machine a figure varies by 1 %. Who makes something cheaper lowers its
/// bound to 1.3 times what is counted then; who makes it dearer raises it, and says in the commit what that is worth.
const BOUNDS: [(&str, f64); 6] = [
    ("API, a POST, 50 connections", 69_000.0),
    ("API, a POST, 1 connection", 120_000.0),
    ("worker, a message drained", 29_500.0),
    ("Redis, a message enqueued", 24_000.0),
    ("Redis, a message leased", 23_000.0),
    ("Redis, a message settled", 25_500.0),
];

/// How long a call to Redis may take: under callgrind either side of it is some fifty times slower.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts, tells every figure beside its bound, and errs when one is beyond it.
pub(crate) fn check() -> Result<()> {
    let [enqueue, lease, settle] = of_redis(10)?;
    let counted = [of_a_post(50, 2_000)?, of_a_post(1, 1_000)?, of_a_drained_message(6_000)?, enqueue, lease, settle];
    println!("| instructions | counted | at most |\n|---|---:|---:|");
    let mut beyond = Vec::new();
    for ((figure, bound), counted) in BOUNDS.into_iter().zip(counted) {
        println!("| {figure} | {} | {} |", human(counted), human(bound));
        if counted > bound {
            beyond.push(figure);
        }
    }
    if beyond.is_empty() { Ok(()) } else { Err(format!("beyond their bounds: {}", beyond.join("; ")).into()) }
}

/// Of the API, for one message a request: by how much more twice as many cost over as many connections, since to accept
/// these costs something too.
fn of_a_post(connections: usize, posts: usize) -> Result<f64> {
    let drover = Drover::on(RedisServer::start())?;
    let mut callgrind = Callgrind::new()?;
    let mut api = Service::counted(&callgrind, "producer-api", &drover.url(), &environment())?;
    api.ignore_log();
    let mut count_posts = |posts| {
        let requests = vec![drover::single(&format!("/v1/queues/{QUEUE}/messages")); posts];
        let before = drover.status()?.totals.enqueued;
        let load = || load::send(api.address(), requests, connections, Until::AllSent);
        let (instructions, _) = callgrind.count(&api, load)?;
        drover.check_stored(before, posts)?;
        Ok::<_, Error>(instructions)
    };
    count_posts(posts / 4)?;
    let (half, all) = (count_posts(posts)?, count_posts(2 * posts)?);
    each(all.saturating_sub(half), posts)
}

/// Of the worker, from the lease to the recorded result, with the handler `log`.
fn of_a_drained_message(messages: usize) -> Result<f64> {
    let drover = Drover::on(RedisServer::start())?;
    let mut callgrind = Callgrind::new()?;
    let mut env = environment();
    env.extend([("DROVER__WORKER__CONCURRENCY", BATCH.to_string()), ("DROVER__LOG__FILTER", "warn".into())]);
    let mut worker = Service::counted(&callgrind, "consumer-worker", &drover.url(), &env)?;
    worker.ignore_log();
    let mut count_drain = |messages| {
        drover.fill(messages)?;
        callgrind.count(&worker, || drover.empty(messages))
    };
    count_drain(messages / 4)?;
    each(count_drain(messages)?.0, messages)
}

/// Of Redis, for a message that is enqueued, leased and settled in batches of 1,000.
fn of_redis(batches: usize) -> Result<[f64; 3]> {
    let mut callgrind = Callgrind::new()?;
    let mut redis = Service::counted_redis(&callgrind)?;
    redis.ignore_log();
    let runtime = Runtime::new()?;
    let queues =
        Queues::new(Redis::new(&format!("redis://{}", redis.address()), PATIENCE)?, DeclaredSettings::default());
    let queue = queues.queue(&QUEUE.parse()?);
    let consumer = ConsumerId::issue();
    let mut count_batch = || -> Result<[u64; 3]> {
        let (enqueued, ()) = callgrind.count(&redis, || runtime.block_on(enqueue(&queue)))?;
        let (leased, settlements) = callgrind.count(&redis, || runtime.block_on(lease(&queue, &consumer)))?;
        let (settled, ()) = callgrind.count(&redis, || runtime.block_on(settle(&queue, settlements)))?;
        Ok([enqueued, leased, settled])
    };
    // The first calls bring connections and scripts.
    count_batch()?;
    let mut sums = [0; 3];
    for _ in 0..batches {
        for (sum, instructions) in sums.iter_mut().zip(count_batch()?) {
            *sum += instructions;
        }
    }
    let [enqueued, leased, settled] = sums.map(|sum| each(sum, batches * BATCH));
    Ok([enqueued?, leased?, settled?])
}

async fn enqueue(queue: &Queue) -> Result<()> {
    let batch = (0..BATCH).map(|n| drover::message(n, None)).collect::<Result<_>>()?;
    queue.enqueue(batch).await?;
    Ok(())
}

/// Leases a batch. Answers how it is to be settled.
async fn lease(queue: &Queue, consumer: &ConsumerId) -> Result<Vec<Settlement>> {
    let leased = queue.lease(&LeaseRequest::new(consumer.clone(), BATCH)).await?;
    if leased.deliveries.len() != BATCH {
        return Err(format!("{} were leased of {BATCH}", leased.deliveries.len()).into());
    }
    let action = Action::Complete(to_raw_value("processed ✅")?);
    Ok(leased
        .deliveries
        .into_iter()
        .map(|delivery| Settlement { lease: delivery.lease, action: action.clone() })
        .collect())
}

async fn settle(queue: &Queue, settlements: Vec<Settlement>) -> Result<()> {
    let settled = queue.settle(&settlements).await?;
    let completed = settled.iter().all(|settled| *settled == Some(State::Completed));
    if completed { Ok(()) } else { Err("not everything that was leased is completed".into()) }
}

/// What a service is told beside its Redis: to be patient with it, and to have as many threads on every machine.
fn environment() -> Vec<(&'static str, String)> {
    vec![("DROVER__REDIS__TIMEOUT", format!("{}s", PATIENCE.as_secs())), ("TOKIO_WORKER_THREADS", "2".into())]
}

fn each(instructions: u64, messages: usize) -> Result<f64> {
    Ok(count(usize::try_from(instructions)?) / count(messages))
}
