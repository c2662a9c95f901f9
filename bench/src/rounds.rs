//! Runs the measurements of a round: each figure once for each system, and Drover's figures with a backlog and many queues.

use std::{thread, time::Duration};

use serde_json::Value;

use crate::{
    Arguments, Result,
    drover::{DrainWorkers, Drover},
    figures::Figures,
    load::{LoadResult, to_f64},
    peers::{Peers, Producer},
    persistence::Persistence,
};

pub(crate) const DROVER_NAME: &str = "Drover";

/// Measures every figure once for each system.
pub(crate) fn measure_round(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    for persistence in [Persistence::Off, Persistence::EverySecond] {
        measure_drains(arguments, peers, persistence, figures)?;
        measure_bulk_enqueues(arguments, peers, persistence, figures)?;
    }
    measure_10_ms_handlers(arguments, peers, figures)?;
    measure_single_posts(arguments, peers, figures)?;
    measure_costs(arguments, peers, figures)?;
    measure_latencies(arguments, peers, figures)?;
    measure_appendfsync_always(arguments, figures)
}

fn drover_on_new_redis(persistence: Persistence) -> Result<Drover> {
    Drover::with_redis(persistence.start_redis())
}

/// Records a numeric field of the JSON that the measuring program (driver) of another queue system has printed.
fn record_field(figures: &mut Figures, figure: &str, system: &str, report: Option<&Value>, field: &str) {
    if let Some(value) = report.and_then(|report| report[field].as_f64()) {
        figures.record(figure, system, value);
    }
}

/// Measures how fast each system empties a full queue (the drain), with its default concurrency and with another concurrency.
fn measure_drains(arguments: &Arguments, peers: &Peers, persistence: Persistence, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("drain") {
        return Ok(());
    }
    let figure = persistence.figure_name("drain, 1/s");
    let concurrency = arguments.concurrency;
    for (system, workers) in [
        (DROVER_NAME.to_owned(), DrainWorkers::ONE),
        (
            format!("{DROVER_NAME}, concurrency {concurrency}"),
            DrainWorkers { concurrency: Some(concurrency), ..DrainWorkers::ONE },
        ),
        (format!("{DROVER_NAME}, 4 workers"), DrainWorkers { count: 4, ..DrainWorkers::ONE }),
        (format!("{DROVER_NAME}, a log line a message"), DrainWorkers { log_filter: "info", ..DrainWorkers::ONE }),
    ] {
        let per_second = drover_on_new_redis(persistence)?.drain(arguments.drained, &workers)?;
        figures.record(&figure, &system, per_second);
    }
    for (driver, name) in [("bullmq", "BullMQ"), ("bull", "Bull")] {
        // A worker of Bull or BullMQ with concurrency 1 is slow, so it gets only a tenth of the messages.
        for (messages, concurrency) in [(arguments.messages, arguments.peer_concurrency), (arguments.messages / 10, 1)]
        {
            let report =
                peers.run_driver(driver, persistence, &["drain", &messages.to_string(), &concurrency.to_string()])?;
            let system = if concurrency == 1 { format!("{name}, its default 1") } else { name.into() };
            record_field(figures, &figure, &system, report.as_ref(), "per_s");
        }
    }
    Ok(())
}

fn measure_bulk_enqueues(
    arguments: &Arguments,
    peers: &Peers,
    persistence: Persistence,
    figures: &mut Figures,
) -> Result<()> {
    if !arguments.includes("bulk") {
        return Ok(());
    }
    let (messages, figure) = (arguments.messages, persistence.figure_name("bulk, 1/s"));
    let new_drover = || drover_on_new_redis(persistence);
    figures.record(&figure, DROVER_NAME, new_drover()?.post_batches(messages)?);
    figures.record(&figure, "Drover, NDJSON", new_drover()?.post_ndjson(messages)?);
    figures.record(&figure, "Drover, library", to_f64(messages) / new_drover()?.enqueue(messages, None)?.as_secs_f64());
    for (driver, name) in [("bullmq", "BullMQ"), ("bull", "Bull")] {
        let report = peers.run_driver(driver, persistence, &["bulk", &messages.to_string(), "1000"])?;
        record_field(figures, &figure, name, report.as_ref(), "per_s");
    }
    Ok(())
}

/// Measures four workers whose handlers take 10 ms, as the handlers of many users do.
fn measure_10_ms_handlers(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("10 ms") {
        return Ok(());
    }
    let figure = "everysec, handlers of 10 ms, 1/s";
    let throughput = drover_on_new_redis(Persistence::EverySecond)?.run_10_ms_handlers()?;
    figures.record(figure, DROVER_NAME, throughput.per_second);
    figures.record("everysec, handlers of 10 ms, share of time", DROVER_NAME, throughput.busy_share);
    figures.record(
        "everysec, handlers of 10 ms, share of rate after a kill",
        DROVER_NAME,
        throughput.rate_share_after_kill,
    );
    if let Some(per_second) = peers.run_10_ms_handlers()? {
        figures.record(figure, "BullMQ", per_second);
    }
    Ok(())
}

fn measure_single_posts(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("POST") {
        return Ok(());
    }
    for (persistence, connections) in
        [(Persistence::Off, 1), (Persistence::Off, 50), (Persistence::Off, 500), (Persistence::EverySecond, 50)]
    {
        let figure_prefix = persistence.figure_name(&format!("POST × {connections}"));
        let (load_result, memory) = drover_on_new_redis(persistence)?.post_singles(connections, arguments.seconds)?;
        let peak_rate = load_result.per_second();
        record_load_result(figures, &figure_prefix, DROVER_NAME, load_result);
        figures.record(&format!("{figure_prefix}, API's MiB"), DROVER_NAME, memory);
        for (producer, name) in [(Producer::Nest, "NestJS + Bull"), (Producer::Echo, "axum echo")] {
            if let Some(load_result) = peers.post_singles(producer, persistence, connections, arguments.seconds)? {
                record_load_result(figures, &figure_prefix, name, load_result);
            }
        }
        if matches!(persistence, Persistence::EverySecond) {
            let mut steady_load =
                drover_on_new_redis(persistence)?.post_steadily(peak_rate / 2.0, arguments.seconds)?;
            figures.record(
                &format!("{figure_prefix} at half of the peak, p99 ms"),
                DROVER_NAME,
                steady_load.times.percentile(99),
            );
        }
    }
    Ok(())
}

fn record_load_result(figures: &mut Figures, posts: &str, system: &str, mut loaded: LoadResult) {
    figures.record(&format!("{posts}, 1/s"), system, loaded.per_second());
    figures.record(&format!("{posts}, p50 ms"), system, loaded.times.percentile(50));
    figures.record(&format!("{posts}, p99 ms"), system, loaded.times.percentile(99));
}

fn measure_costs(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("cost") {
        return Ok(());
    }
    let figure_names = ["cost, Redis CPU µs", "cost, Redis commands", "cost, bytes waiting", "cost, bytes completed"];
    let costs = drover_on_new_redis(Persistence::Off)?.measure_cost(20_000)?;
    for (name, value) in figure_names.iter().chain(&["cost, worker's MiB"]).zip(costs) {
        figures.record(name, DROVER_NAME, value);
    }
    let report = peers.run_driver("bullmq", Persistence::Off, &["cost", "20000"])?;
    for (name, field) in figure_names.iter().zip(["redis_cpu_us", "redis_calls", "bytes_waiting", "bytes_completed"]) {
        record_field(figures, name, "BullMQ", report.as_ref(), field);
    }
    Ok(())
}

fn measure_latencies(arguments: &Arguments, peers: &Peers, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("late") {
        return Ok(());
    }
    let mut latencies = drover_on_new_redis(Persistence::Off)?.measure_latency(250)?;
    figures.record("latency idle, p50 ms", DROVER_NAME, latencies.percentile(50));
    figures.record("latency idle, p99 ms", DROVER_NAME, latencies.percentile(99));
    let mut lateness = drover_on_new_redis(Persistence::Off)?.measure_lateness(2_000)?;
    figures.record("lateness due, p50 ms", DROVER_NAME, lateness.percentile(50));
    figures.record("lateness due, p99 ms", DROVER_NAME, lateness.percentile(99));
    if lateness.min() < 0.0 {
        return Err(format!("a message was handled {} ms before its due time", -lateness.min()).into());
    }
    for (figure, name) in [("latency", "latency idle"), ("delay", "lateness due")] {
        let report = peers.run_driver("bullmq", Persistence::Off, &[figure])?;
        record_field(figures, &format!("{name}, p50 ms"), "BullMQ", report.as_ref(), "p50_ms");
        record_field(figures, &format!("{name}, p99 ms"), "BullMQ", report.as_ref(), "p99_ms");
    }
    Ok(())
}

/// Measures Drover with a Redis that writes each change to disk before it answers.
fn measure_appendfsync_always(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    if !arguments.includes("always") {
        return Ok(());
    }
    let fresh_drover = || drover_on_new_redis(Persistence::Always);
    figures.record("always, drain, 1/s", DROVER_NAME, fresh_drover()?.drain(arguments.messages, &DrainWorkers::ONE)?);
    figures.record("always, bulk, 1/s", DROVER_NAME, fresh_drover()?.post_batches(arguments.messages)?);
    let (loaded, _) = fresh_drover()?.post_singles(50, arguments.seconds)?;
    figures.record("always, POST × 50, 1/s", DROVER_NAME, loaded.per_second());
    Ok(())
}

/// Measures Drover with a large backlog and with many queues; for comparison, each measurement alternates with one on a new
/// Redis.
pub(crate) fn measure_under_backlog(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    if arguments.backlog > 0 && arguments.includes("backlog") {
        let drover_with_backlog = drover_on_new_redis(Persistence::Off)?;
        drover_with_backlog.create_backlog(arguments.backlog)?;
        for _ in 0..arguments.rounds {
            measure_figures_of_queue(&drover_on_new_redis(Persistence::Off)?, "backlog", "empty", arguments, figures)?;
            measure_figures_of_queue(&drover_with_backlog, "backlog", "backlog", arguments, figures)?;
        }
    }
    if arguments.queues > 0 && arguments.includes("queues") {
        let drover_with_many_queues = drover_on_new_redis(Persistence::Off)?;
        drover_with_many_queues.post_to_queues(arguments.queues, 1)?;
        for _ in 0..arguments.rounds {
            measure_figures_of_queue(
                &drover_on_new_redis(Persistence::Off)?,
                "queues",
                "one queue",
                arguments,
                figures,
            )?;
            measure_figures_of_queue(&drover_with_many_queues, "queues", "many queues", arguments, figures)?;
            for (queues, system) in [(1, "one queue"), (arguments.queues, "many queues")] {
                let load_result = drover_on_new_redis(Persistence::Off)?.post_to_queues(queues, arguments.seconds)?;
                figures.record("queues, POST to each in turn 1/s", system, load_result.per_second());
            }
        }
    }
    Ok(())
}

/// Measures the figures of one queue. The function empties the queue first (the drain), so that messages that the previous round has posted
/// are completed, too.
fn measure_figures_of_queue(
    drover: &Drover,
    situation: &str,
    system: &str,
    arguments: &Arguments,
    figures: &mut Figures,
) -> Result<()> {
    // The messages of the previous round have a delay of 1.5 s, so all of them are due after a pause of 2 s.
    thread::sleep(Duration::from_secs(2));
    let mut record = |figure: &str, value| figures.record(&format!("{situation}, {figure}"), system, value);
    record("drain 1/s", drover.drain(arguments.drained, &DrainWorkers::ONE)?);
    let mut times = drover.measure_latency(250)?;
    record("latency idle p50 ms", times.percentile(50));
    record("latency idle p99 ms", times.percentile(99));
    let mut lateness = drover.measure_lateness(2_000)?;
    record("lateness due p50 ms", lateness.percentile(50));
    record("lateness due p99 ms", lateness.percentile(99));
    record("Redis CPU µs", drover.measure_cost(20_000)?[0]);
    record("bulk 1/s", drover.post_batches(arguments.messages)?);
    record("POST × 50 1/s", drover.post_singles(50, arguments.seconds)?.0.per_second());
    Ok(())
}
