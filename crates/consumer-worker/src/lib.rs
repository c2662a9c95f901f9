#![doc = include_str!("../README.md")]

pub mod config;
mod crew;
mod endpoint;
mod from_job;
mod handler;
mod handler_error;
mod handlers;
mod heartbeat;
mod held;
mod job;
mod job_span;
mod line;
mod metrics;
mod outcome;
mod places;
mod route;
mod routes;
mod run;
mod settler;
mod testing;
mod trouble;
mod worker;

use std::{error::Error, process::ExitCode, sync::Arc};

use axum::{Router, middleware, routing::get};
use clap::Parser;
use prometheus_client::registry::Registry;
use queue_core::{ConsumerId, Queues};
use service::{
    Code, Limits, Problem, RedisHealthMonitor, Stop,
    metrics::{page, register_basics},
    render_problems,
};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use endpoint::{AsItIs, AsValue, Endpoint, IntoEndpoint};
pub use from_job::{FromJob, FromRef, Payload, State};
pub use handler::Handler;
pub use handler_error::HandlerError;
pub use job::Job;
pub use metrics::WorkerMetrics;
pub use outcome::{IntoOutcome, Outcome};
pub use queue_core::{Extended, Failure, Message, Millis, Timestamp};
pub use route::{ByName, IntoRoute, Route, Whole, any, on};
pub use routes::Routes;
pub use testing::{TestJob, reported};
pub use worker::{Worker, WorkerError};

/// The answer of the worker's port at every other path.
const NOT_HERE: &str = "there is nothing at this path: a worker serves /livez, /readyz and /metrics only; the endpoints for \
                        messages and queues are those of the producer-api, at its own address";

/// Runs a worker as it is configured, with these routes, and serves its health and metrics, until it is told to stop. For a
/// process of your own; [`run`] is a whole program.
///
/// # Errors
///
/// When the configuration can't be used or the address is taken.
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
    let metrics = WorkerMetrics::of(&routes);
    let mut registry = Registry::default();
    register_basics(&mut registry, "consumer-worker", &redis, &subscriber);
    metrics.register(&mut registry);
    let registry = Arc::new(registry);
    let health = Router::new()
        .merge(service::health::routes(redis, subscriber.clone(), monitor.clone()))
        .route("/metrics", get(async move || page([&*registry])))
        .fallback(|| async { Problem::new(Code::NotFound, NOT_HERE) })
        .layer(middleware::from_fn(render_problems));

    // The health outlives the work: what is still settled while stopping is watched too.
    let stopped = CancellationToken::new();
    let monitoring = tokio::spawn(monitor.run(stopped.clone()));
    let grace = config.worker.shutdown_grace.to_std();
    let serving = tokio::spawn(service::serve(listener, health, Limits::of_health(grace), None, stopped.clone()));

    let consumer = ConsumerId::issue();
    worker::tell_start(&routes, &consumer, config.worker.concurrency);
    let worker = Worker { queues, subscriber, routes, consumer, config: config.worker, metrics };
    let result = worker.run(stop).await;
    handlers::all_programs_ended().await;
    stopped.cancel();
    serving.await??;
    monitoring.await?;
    Ok(result?)
}

/// Drover's worker: drains queues, runs handlers, records what came of each message
///
/// Every key of the configuration stands in config/default.toml; the environment (`DROVER__SECTION__KEY`) wins over the
/// file, the file over the defaults.
#[derive(Debug, Parser)]
#[command(version)]
struct CommandLine {
    #[command(flatten)]
    arguments: service::Arguments,
}

/// A whole worker with these routes: reads the arguments and the configuration, whose `worker.routes` do not count, keeps a
/// log, serves health and metrics, and works until SIGTERM or SIGINT.
///
/// What `main` returns: success after a graceful stop, also when messages had to be released; else 1, also after a second
/// signal, which ends it at once.
pub fn run<S>(name: &str, routes: Routes<S>) -> ExitCode
where
    S: Clone + Send + Sync + 'static,
{
    run_with(name, |_| routes)
}

/// The worker of the binary, whose routes stand in its configuration.
#[doc(hidden)]
pub fn run_configured() -> ExitCode {
    run_with("consumer-worker", |config| Routes::from_config(&config.worker.routes))
}

fn run_with<S>(name: &str, routes: impl FnOnce(&Config) -> Routes<S>) -> ExitCode
where
    S: Clone + Send + Sync + 'static,
{
    match service::parse::<CommandLine>() {
        Ok(CommandLine { arguments }) => service::run(name, &arguments, |config, stop| {
            let routes = routes(&config);
            serve(config, routes, stop)
        }),
        Err(code) => code,
    }
}
