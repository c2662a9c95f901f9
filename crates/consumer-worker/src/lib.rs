#![doc = include_str!("../README.md")]

pub mod config;
mod handlers;
mod job;
mod routing;
mod runtime;
mod testing;

use std::{error::Error, process::ExitCode, sync::Arc};

use axum::{Router, middleware, routing::get};
use clap::Parser;
use prometheus_client::registry::Registry;
use queue_core::{ConsumerId, Queues};
use service::{
    Code, Limits, Problem, RedisHealthMonitor,
    metrics::{page, register_build_process_and_redis_metrics},
    render_problems,
};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use job::Job;
pub use queue_core::{Extended, Failure, Message, Millis, SignalKey, Timestamp};
pub use routing::{
    Endpoint, FromJob, FromRef, Handler, HandlerError, IntoEndpoint, IntoOutcome, IntoRoute, IsEndpoint, IsHandler,
    IsHandlerForAll, IsRoute, Outcome, Payload, Route, Routes, State, any, on,
};
pub use runtime::{Worker, WorkerError, WorkerMetrics};
pub use service::Stop;
pub use testing::{TestJob, reported};

/// The error text of 404 responses on the worker's port.
const UNKNOWN_PATH_ERROR: &str = "there is nothing at this path: a worker serves /livez, /readyz and /metrics only; the endpoints for \
                        messages and queues are those of the producer-api, at its own address";

/// Runs a worker with a configuration and routes, and serves its health and metrics, until `stop` is cancelled. `serve` is for
/// a process that has its own `main` and runtime; [`run`] is a complete program.
///
/// # Errors
///
/// Returns an error if the configuration is invalid, if the worker can't listen on its address, or if the worker stopped with a
/// [`WorkerError`].
pub async fn serve<S>(config: Config, routes: Routes<S>, stop: Stop) -> Result<(), Box<dyn Error + Send + Sync>>
where
    S: Clone + Send + Sync + 'static,
{
    let routes = routes.without_state();
    let redis = config.redis.connect()?;
    let subscriber = routes.subscriber(redis.clone());
    let queues = Queues::new(redis.clone(), config.queues);
    let monitor = RedisHealthMonitor::new(redis.clone(), subscriber.clone());
    let listener = service::bind(&config.worker.bind).await?;
    let metrics = WorkerMetrics::for_routes(&routes);
    let mut registry = Registry::default();
    register_build_process_and_redis_metrics(&mut registry, "consumer-worker", &redis, &subscriber);
    metrics.register(&mut registry);
    let registry = Arc::new(registry);
    let health = Router::new()
        .merge(service::health::routes(redis, subscriber.clone(), monitor.clone()))
        .route("/metrics", get(async move || page([&*registry])))
        .fallback(|| async { Problem::new(Code::NotFound, UNKNOWN_PATH_ERROR) })
        .layer(middleware::from_fn(render_problems));

    // Health and metrics are served until the worker has stopped, because the worker still settles leases while it stops.
    let stop_token = CancellationToken::new();
    let monitor_task = tokio::spawn(monitor.run(stop_token.clone()));
    let shutdown_grace = config.worker.shutdown_grace.to_std();
    let server_task = tokio::spawn(service::serve(
        listener,
        health,
        Limits::for_health_server(shutdown_grace),
        None,
        stop_token.clone(),
    ));

    let consumer = ConsumerId::issue();
    runtime::log_start(&routes, &consumer, config.worker.concurrency);
    let worker = Worker { queues, subscriber, routes, consumer, config: config.worker, metrics };
    let result = worker.run(stop).await;
    handlers::all_programs_ended().await;
    stop_token.cancel();
    server_task.await??;
    monitor_task.await?;
    Ok(result?)
}

/// Drover's worker: leases messages, runs their handlers, and records the outcome of each message
///
/// Every key of the configuration is in config/default.toml; environment variables (`DROVER__SECTION__KEY`) override the
/// configuration file, and the file overrides the defaults.
#[derive(Debug, Parser)]
#[command(version)]
struct CommandLine {
    #[command(flatten)]
    arguments: service::Arguments,
}

/// Runs a complete worker program with these routes until SIGTERM or SIGINT. The program reads the arguments and the
/// configuration (ignoring `worker.routes`), logs, and serves health and metrics.
///
/// Returns the exit code for `main`: 0 after a graceful stop, even if messages were released; 1 after an error, or after a
/// second signal, which stops the worker at once; 2 if an argument is wrong.
pub fn run<S>(name: &str, routes: Routes<S>) -> ExitCode
where
    S: Clone + Send + Sync + 'static,
{
    run_program(name, |_| routes)
}

/// Runs the program `consumer-worker`, whose routes are in its configuration.
#[doc(hidden)]
pub fn run_configured() -> ExitCode {
    run_program("consumer-worker", |config| Routes::from_config(&config.worker.routes))
}

fn run_program<S>(name: &str, routes: impl FnOnce(&Config) -> Routes<S>) -> ExitCode
where
    S: Clone + Send + Sync + 'static,
{
    match service::parse_arguments::<CommandLine>() {
        Ok(CommandLine { arguments }) => service::run(name, &arguments, |config, stop| {
            let routes = routes(&config);
            serve(config, routes, stop)
        }),
        Err(code) => code,
    }
}
