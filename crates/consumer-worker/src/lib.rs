#![doc = include_str!("../README.md")]

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
mod route;
mod routes;
mod run;
mod settler;
mod testing;
mod worker;

use std::error::Error;

use axum::{Router, http::StatusCode, middleware, routing::get};
use queue_core::{ConsumerId, Queues, Redis, Subscriber};
use service::{
    Config, Examiner, Limits,
    metrics::{Basics, Page},
    render_problems,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use endpoint::{AsItIs, AsValue, Endpoint, IntoEndpoint};
pub use from_job::{FromJob, FromRef, Payload, State};
pub use handler::Handler;
pub use handler_error::HandlerError;
pub use job::Job;
pub use metrics::WorkerMetrics;
pub use outcome::{IntoOutcome, Outcome};
pub use queue_core::{Extended, Failure, Message, Millis, Reported, Timestamp};
pub use route::{ByName, IntoRoute, Route, Whole, any, on};
pub use routes::Routes;
pub use testing::{TestJob, reported};
pub use worker::Worker;

/// Runs a worker as it is configured, and serves its health and metrics, until `shutdown`.
///
/// # Errors
///
/// When the configuration can't be used or the address is taken.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>> {
    let redis = Redis::new(config.redis.url.expose(), config.redis.timeout.to_std())?;
    let subscriber = Subscriber::new(redis.clone());
    let queues = Queues::new(redis.clone(), config.queues);
    let examiner = Examiner::new(redis.clone(), subscriber.clone());
    let listener = service::bind(config.worker.bind).await?;
    let routes = Routes::from_config(&config.worker.routes);
    let metrics = WorkerMetrics::of(&routes);
    let figures = {
        let (basics, metrics) = (Basics::new("consumer-worker", redis.clone(), subscriber.clone()), metrics.clone());
        async move || {
            let mut page = Page::default();
            basics.write(&mut page);
            metrics.write(&mut page);
            page
        }
    };
    let health = Router::new()
        .merge(service::health::routes(redis, subscriber.clone(), examiner.clone()))
        .route("/metrics", get(figures))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(middleware::from_fn(render_problems));

    // The subscription and the health outlive the work: what is still settled while stopping is watched too.
    let stopped = CancellationToken::new();
    let listening = tokio::spawn({
        let (subscriber, stopped) = (subscriber.clone(), stopped.clone());
        async move { subscriber.run(stopped).await }
    });
    let examining = tokio::spawn(examiner.run(stopped.clone()));
    let grace = config.worker.shutdown_grace.to_std();
    let serving = tokio::spawn(service::serve(listener, health, Limits::of_health(grace), None, stopped.clone()));

    let consumer = ConsumerId::issue();
    info!(%consumer, queues = routes.queues().len(), concurrency = config.worker.concurrency, "working");
    let worker = Worker {
        queues,
        subscriber,
        routes,
        consumer,
        concurrency: config.worker.concurrency,
        poll_interval: config.worker.poll_interval.to_std(),
        shutdown_grace: grace,
        metrics,
    };
    let result = worker.run(shutdown).await;
    handlers::all_programs_ended().await;
    stopped.cancel();
    serving.await??;
    listening.await?;
    examining.await?;
    Ok(result?)
}
