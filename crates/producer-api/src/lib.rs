#![doc = include_str!("../README.md")]

mod json;
mod new_message;
mod refusal;
mod router;
mod routes;

use std::{error::Error, sync::Arc};

use queue_core::{Janitor, Millis, Queues, Redis, Retry, Subscriber};
use service::{Config, Examiner};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use router::router;

/// What all requests share.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

struct Shared {
    queues: Queues,
    subscriber: Subscriber,
    body_limit: usize,
    request_timeout: Millis,
    max_wait: Millis,
}

/// Serves the API until `shutdown`.
///
/// # Errors
///
/// When the configuration can't be used or the address is taken.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>> {
    let redis =
        Redis::new(config.redis.url.expose(), config.redis.timeout.to_std())?.confirmed_by(config.durability.replicas);
    let subscriber = Subscriber::of_all_queues(redis.clone());
    let queues = Queues::new(redis.clone(), config.queues);
    let listener = service::bind(config.api.bind).await?;
    if config.api.bind.ip().is_loopback() {
        info!("there are no API keys: everybody on this machine may do everything");
    } else {
        warn!(bind = %config.api.bind, "auth.mode = \"none\": whoever reaches this address may do everything");
    }

    let listening = tokio::spawn({
        let (subscriber, shutdown) = (subscriber.clone(), shutdown.clone());
        async move { subscriber.run(shutdown).await }
    });
    let examiner = Examiner::new(redis.clone(), subscriber.clone());
    let examining = tokio::spawn(examiner.clone().run(shutdown.clone()));
    let declaring = tokio::spawn(declare(queues.clone(), shutdown.clone()));
    let tending =
        Janitor::new(queues.clone(), subscriber.clone()).map(|janitor| tokio::spawn(janitor.run(shutdown.clone())));
    let app = App {
        shared: Arc::new(Shared {
            queues,
            subscriber: subscriber.clone(),
            body_limit: config.api.body_limit,
            request_timeout: config.api.request_timeout,
            max_wait: config.api.max_wait,
        }),
    };
    let router = router(app, service::health::routes(redis, subscriber, examiner));
    service::serve(listener, router, shutdown, config.api.shutdown_grace.to_std()).await?;
    listening.await?;
    examining.await?;
    declaring.await?;
    if let Some(tending) = tending {
        tending.await?;
    }
    Ok(())
}

/// Applies the declared settings as soon as Redis is there; not before then, so that the API can start first.
async fn declare(queues: Queues, shutdown: CancellationToken) {
    let mut retry = Retry::new();
    let mut told = false;
    while let Err(error) = queues.declare().await {
        if !told {
            warn!(%error, "the declared settings are not applied yet");
            told = true;
        }
        tokio::select! {
            () = sleep(retry.pause()) => {}
            () = shutdown.cancelled() => return,
        }
    }
    if told {
        info!("the declared settings are applied");
    }
}
