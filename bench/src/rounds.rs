//! What is measured, in turns.

use std::{thread, time::Duration};

use drover_tests::RedisServer;
use serde_json::Value;

use crate::{
    Arguments, Result,
    drover::{BATCH, Drover},
    figures::Figures,
    load::{Loaded, count},
    peers::{Peers, Producer},
};

pub(crate) const DROVER: &str = "Drover";

/// Every figure once, of each system.
pub(crate) fn measure(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    drains(arguments, peers, figures)?;
    bulks(arguments, peers, figures)?;
    singles(arguments, peers, figures)?;
    costs(arguments, peers, figures)?;
    latencies(arguments, peers, figures)?;
    durability(arguments, figures)
}

fn empty() -> Result<Drover> {
    Drover::on(RedisServer::start())
}

/// Notes a field of a driver's report.
fn note(figures: &mut Figures, figure: &str, system: &str, report: Option<&Value>, field: &str) {
    if let Some(value) = report.and_then(|report| report[field].as_f64()) {
        figures.note(figure, system, value);
    }
}

fn drains(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.wants("drain") {
        return Ok(());
    }
    let messages = arguments.messages.to_string();
    for (workers, system) in [(1, DROVER), (2, "Drover, 2 workers"), (4, "Drover, 4 workers")] {
        let per_second = empty()?.drain(arguments.messages, workers, arguments.concurrency)?;
        figures.note("drain, 1/s", system, per_second);
    }
    for (system, name) in [("bullmq", "BullMQ"), ("bull", "Bull")] {
        let report = peers.driver(system, &["drain", &messages, "200"])?;
        note(figures, "drain, 1/s", name, report.as_ref(), "per_s");
    }
    Ok(())
}

fn bulks(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.wants("bulk") {
        return Ok(());
    }
    let (messages, figure) = (arguments.messages, "bulk, 1/s");
    figures.note(figure, DROVER, empty()?.post_batches(messages)?);
    figures.note(figure, "Drover, NDJSON", empty()?.post_lines(messages)?);
    figures.note(figure, "Drover, library", count(messages) / empty()?.enqueue(messages, None)?.as_secs_f64());
    for (system, name) in [("bullmq", "BullMQ"), ("bull", "Bull")] {
        let report = peers.driver(system, &["bulk", &messages.to_string(), "1000"])?;
        note(figures, figure, name, report.as_ref(), "per_s");
    }
    Ok(())
}

fn singles(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.wants("POST") {
        return Ok(());
    }
    for connections in [1, 50, 500] {
        let (loaded, memory) = empty()?.post_singles(connections, arguments.seconds)?;
        note_load(figures, connections, DROVER, loaded);
        figures.note(&format!("POST × {connections}, API's MiB"), DROVER, memory);
        for (producer, name) in [(Producer::Nest, "NestJS + Bull"), (Producer::Echo, "axum echo")] {
            if let Some(loaded) = peers.post_singles(producer, connections, arguments.seconds)? {
                note_load(figures, connections, name, loaded);
            }
        }
    }
    Ok(())
}

fn note_load(figures: &mut Figures, connections: usize, system: &str, mut loaded: Loaded) {
    figures.note(&format!("POST × {connections}, 1/s"), system, loaded.per_second());
    figures.note(&format!("POST × {connections}, p50 ms"), system, loaded.times.percentile(50));
    figures.note(&format!("POST × {connections}, p99 ms"), system, loaded.times.percentile(99));
}

fn costs(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.wants("cost") {
        return Ok(());
    }
    let names = ["cost, Redis CPU µs", "cost, Redis commands", "cost, bytes waiting", "cost, bytes completed"];
    // A worker leases a third of what it may hold at a time: batches of 1,000 all the way.
    let cost = empty()?.cost(20_000, 3 * BATCH)?;
    for (name, value) in names.iter().chain(&["cost, worker's MiB"]).zip(cost) {
        figures.note(name, DROVER, value);
    }
    let report = peers.driver("bullmq", &["cost", "20000"])?;
    for (name, field) in names.iter().zip(["redis_cpu_us", "redis_calls", "bytes_waiting", "bytes_completed"]) {
        note(figures, name, "BullMQ", report.as_ref(), field);
    }
    Ok(())
}

fn latencies(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.wants("late") {
        return Ok(());
    }
    let mut times = empty()?.latency(250)?;
    figures.note("latency idle, p50 ms", DROVER, times.percentile(50));
    figures.note("latency idle, p99 ms", DROVER, times.percentile(99));
    let mut late = empty()?.lateness(2_000)?;
    figures.note("lateness due, p50 ms", DROVER, late.percentile(50));
    figures.note("lateness due, p99 ms", DROVER, late.percentile(99));
    if late.least() < 0.0 {
        return Err(format!("a message was handled {} ms early", -late.least()).into());
    }
    for (figure, name) in [("latency", "latency idle"), ("delay", "lateness due")] {
        let report = peers.driver("bullmq", &[figure])?;
        note(figures, &format!("{name}, p50 ms"), "BullMQ", report.as_ref(), "p50_ms");
        note(figures, &format!("{name}, p99 ms"), "BullMQ", report.as_ref(), "p99_ms");
    }
    Ok(())
}

fn durability(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    if !arguments.wants("fsync") {
        return Ok(());
    }
    for (fsync, start) in
        [("everysec", RedisServer::start_fsync_everysec as fn() -> RedisServer), ("always", RedisServer::start_durable)]
    {
        let drain = Drover::on(start())?.drain(arguments.messages, 1, arguments.concurrency)?;
        figures.note(&format!("fsync {fsync}, drain 1/s"), DROVER, drain);
        let bulk = Drover::on(start())?.post_batches(arguments.messages)?;
        figures.note(&format!("fsync {fsync}, bulk 1/s"), DROVER, bulk);
        let (loaded, _) = Drover::on(start())?.post_singles(50, arguments.seconds)?;
        figures.note(&format!("fsync {fsync}, POST × 50 1/s"), DROVER, loaded.per_second());
    }
    Ok(())
}

/// What Drover does while there is a great backlog, and with very many queues; each beside the same with nothing there, in
/// turns.
pub(crate) fn measure_with_much_there(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    if arguments.backlog > 0 && arguments.wants("backlog") {
        let full = empty()?;
        full.pile_up(arguments.backlog, arguments.concurrency)?;
        for _ in 0..arguments.rounds {
            measure_all(&empty()?, "backlog", "empty", arguments, figures)?;
            measure_all(&full, "backlog", "backlog", arguments, figures)?;
        }
    }
    if arguments.queues > 0 && arguments.wants("queues") {
        let full = empty()?;
        full.post_to_queues(arguments.queues, 1)?;
        for _ in 0..arguments.rounds {
            measure_all(&empty()?, "queues", "one queue", arguments, figures)?;
            measure_all(&full, "queues", "many queues", arguments, figures)?;
            for (queues, system) in [(1, "one queue"), (arguments.queues, "many queues")] {
                let loaded = empty()?.post_to_queues(queues, arguments.seconds)?;
                figures.note("queues, POST to each in turn 1/s", system, loaded.per_second());
            }
        }
    }
    Ok(())
}

/// Every figure of one queue. The drain comes first, and takes along what the posts of the round before left.
fn measure_all(
    drover: &Drover,
    situation: &str,
    system: &str,
    arguments: &Arguments,
    figures: &mut Figures,
) -> Result<()> {
    // Those were posted with a delay of 1.5 s: by then all of them are due.
    thread::sleep(Duration::from_secs(2));
    let mut note = |figure: &str, value| figures.note(&format!("{situation}, {figure}"), system, value);
    note("drain 1/s", drover.drain(arguments.messages, 1, arguments.concurrency)?);
    let mut times = drover.latency(250)?;
    note("latency idle p50 ms", times.percentile(50));
    note("latency idle p99 ms", times.percentile(99));
    let mut late = drover.lateness(2_000)?;
    note("lateness due p50 ms", late.percentile(50));
    note("lateness due p99 ms", late.percentile(99));
    note("Redis CPU µs", drover.cost(20_000, 3 * BATCH)?[0]);
    note("bulk 1/s", drover.post_batches(arguments.messages)?);
    note("POST × 50 1/s", drover.post_singles(50, arguments.seconds)?.0.per_second());
    Ok(())
}
