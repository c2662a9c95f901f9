//! Runs the measurements of a round: each figure once for each system, and Drover's figures with a backlog and many queues.

use std::{thread, time::Duration};

use drover_tests::RedisServer;
use serde_json::Value;

use crate::{
    Arguments, Result,
    drover::{BATCH, Drover},
    figures::Figures,
    load::{LoadResult, to_f64},
    peers::{Peers, Producer},
};

pub(crate) const DROVER: &str = "Drover";

/// Measures every figure once for each system.
pub(crate) fn measure(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    drains(arguments, peers, figures)?;
    bulks(arguments, peers, figures)?;
    singles(arguments, peers, figures)?;
    costs(arguments, peers, figures)?;
    latencies(arguments, peers, figures)?;
    durability(arguments, figures)
}

fn on_new_redis() -> Result<Drover> {
    Drover::on(RedisServer::start())
}

/// Records a field of a driver's report.
fn record_field(figures: &mut Figures, figure: &str, system: &str, report: Option<&Value>, field: &str) {
    if let Some(value) = report.and_then(|report| report[field].as_f64()) {
        figures.record(figure, system, value);
    }
}

fn drains(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("drain") {
        return Ok(());
    }
    let messages = arguments.messages.to_string();
    for (workers, system) in [(1, DROVER), (2, "Drover, 2 workers"), (4, "Drover, 4 workers")] {
        let per_second = on_new_redis()?.drain(arguments.messages, workers, arguments.concurrency)?;
        figures.record("drain, 1/s", system, per_second);
    }
    for (system, name) in [("bullmq", "BullMQ"), ("bull", "Bull")] {
        let report = peers.driver(system, &["drain", &messages, "200"])?;
        record_field(figures, "drain, 1/s", name, report.as_ref(), "per_s");
    }
    Ok(())
}

fn bulks(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("bulk") {
        return Ok(());
    }
    let (messages, figure) = (arguments.messages, "bulk, 1/s");
    figures.record(figure, DROVER, on_new_redis()?.post_batches(messages)?);
    figures.record(figure, "Drover, NDJSON", on_new_redis()?.post_ndjson(messages)?);
    figures.record(
        figure,
        "Drover, library",
        to_f64(messages) / on_new_redis()?.enqueue(messages, None)?.as_secs_f64(),
    );
    for (system, name) in [("bullmq", "BullMQ"), ("bull", "Bull")] {
        let report = peers.driver(system, &["bulk", &messages.to_string(), "1000"])?;
        record_field(figures, figure, name, report.as_ref(), "per_s");
    }
    Ok(())
}

fn singles(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("POST") {
        return Ok(());
    }
    for connections in [1, 50, 500] {
        let (loaded, memory) = on_new_redis()?.post_singles(connections, arguments.seconds)?;
        record_load(figures, connections, DROVER, loaded);
        figures.record(&format!("POST × {connections}, API's MiB"), DROVER, memory);
        for (producer, name) in [(Producer::Nest, "NestJS + Bull"), (Producer::Echo, "axum echo")] {
            if let Some(loaded) = peers.post_singles(producer, connections, arguments.seconds)? {
                record_load(figures, connections, name, loaded);
            }
        }
    }
    Ok(())
}

fn record_load(figures: &mut Figures, connections: usize, system: &str, mut loaded: LoadResult) {
    figures.record(&format!("POST × {connections}, 1/s"), system, loaded.per_second());
    figures.record(&format!("POST × {connections}, p50 ms"), system, loaded.times.percentile(50));
    figures.record(&format!("POST × {connections}, p99 ms"), system, loaded.times.percentile(99));
}

fn costs(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("cost") {
        return Ok(());
    }
    let names = ["cost, Redis CPU µs", "cost, Redis commands", "cost, bytes waiting", "cost, bytes completed"];
    // A worker leases up to a third of its concurrency at a time, so this concurrency gives batches of 1,000.
    let cost = on_new_redis()?.cost(20_000, 3 * BATCH)?;
    for (name, value) in names.iter().chain(&["cost, worker's MiB"]).zip(cost) {
        figures.record(name, DROVER, value);
    }
    let report = peers.driver("bullmq", &["cost", "20000"])?;
    for (name, field) in names.iter().zip(["redis_cpu_us", "redis_calls", "bytes_waiting", "bytes_completed"]) {
        record_field(figures, name, "BullMQ", report.as_ref(), field);
    }
    Ok(())
}

fn latencies(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("late") {
        return Ok(());
    }
    let mut times = on_new_redis()?.latency(250)?;
    figures.record("latency idle, p50 ms", DROVER, times.percentile(50));
    figures.record("latency idle, p99 ms", DROVER, times.percentile(99));
    let mut late = on_new_redis()?.lateness(2_000)?;
    figures.record("lateness due, p50 ms", DROVER, late.percentile(50));
    figures.record("lateness due, p99 ms", DROVER, late.percentile(99));
    if late.min() < 0.0 {
        return Err(format!("a message was handled {} ms before its due time", -late.min()).into());
    }
    for (figure, name) in [("latency", "latency idle"), ("delay", "lateness due")] {
        let report = peers.driver("bullmq", &[figure])?;
        record_field(figures, &format!("{name}, p50 ms"), "BullMQ", report.as_ref(), "p50_ms");
        record_field(figures, &format!("{name}, p99 ms"), "BullMQ", report.as_ref(), "p99_ms");
    }
    Ok(())
}

fn durability(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("fsync") {
        return Ok(());
    }
    for (fsync, start_redis) in
        [("everysec", RedisServer::start_fsync_everysec as fn() -> RedisServer), ("always", RedisServer::start_durable)]
    {
        let drain = Drover::on(start_redis())?.drain(arguments.messages, 1, arguments.concurrency)?;
        figures.record(&format!("fsync {fsync}, drain 1/s"), DROVER, drain);
        let bulk = Drover::on(start_redis())?.post_batches(arguments.messages)?;
        figures.record(&format!("fsync {fsync}, bulk 1/s"), DROVER, bulk);
        let (loaded, _) = Drover::on(start_redis())?.post_singles(50, arguments.seconds)?;
        figures.record(&format!("fsync {fsync}, POST × 50 1/s"), DROVER, loaded.per_second());
    }
    Ok(())
}

/// Measures Drover with a large backlog and with many queues, alternating with a new Redis for comparison.
pub(crate) fn measure_under_backlog(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    if arguments.backlog > 0 && arguments.includes("backlog") {
        let full = on_new_redis()?;
        full.create_backlog(arguments.backlog, arguments.concurrency)?;
        for _ in 0..arguments.rounds {
            measure_all(&on_new_redis()?, "backlog", "empty", arguments, figures)?;
            measure_all(&full, "backlog", "backlog", arguments, figures)?;
        }
    }
    if arguments.queues > 0 && arguments.includes("queues") {
        let full = on_new_redis()?;
        full.post_to_queues(arguments.queues, 1)?;
        for _ in 0..arguments.rounds {
            measure_all(&on_new_redis()?, "queues", "one queue", arguments, figures)?;
            measure_all(&full, "queues", "many queues", arguments, figures)?;
            for (queues, system) in [(1, "one queue"), (arguments.queues, "many queues")] {
                let loaded = on_new_redis()?.post_to_queues(queues, arguments.seconds)?;
                figures.record("queues, POST to each in turn 1/s", system, loaded.per_second());
            }
        }
    }
    Ok(())
}

/// Measures every figure of one queue. The drain comes first: it includes the messages that the previous round's posts left.
fn measure_all(
    drover: &Drover,
    situation: &str,
    system: &str,
    arguments: &Arguments,
    figures: &mut Figures,
) -> Result<()> {
    // Those messages have a delay of 1.5 s, so all of them are due after this time.
    thread::sleep(Duration::from_secs(2));
    let mut record = |figure: &str, value| figures.record(&format!("{situation}, {figure}"), system, value);
    record("drain 1/s", drover.drain(arguments.messages, 1, arguments.concurrency)?);
    let mut times = drover.latency(250)?;
    record("latency idle p50 ms", times.percentile(50));
    record("latency idle p99 ms", times.percentile(99));
    let mut late = drover.lateness(2_000)?;
    record("lateness due p50 ms", late.percentile(50));
    record("lateness due p99 ms", late.percentile(99));
    record("Redis CPU µs", drover.cost(20_000, 3 * BATCH)?[0]);
    record("bulk 1/s", drover.post_batches(arguments.messages)?);
    record("POST × 50 1/s", drover.post_singles(50, arguments.seconds)?.0.per_second());
    Ok(())
}
