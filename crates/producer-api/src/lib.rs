#![doc = include_str!("../README.md")]

mod answer;
mod api;
mod attend;
mod auth;
mod body;
mod budget;
mod cors;
mod cursor;
mod idempotency;
mod lines;
mod metrics;
mod openapi;
mod refusal;
mod request_span;
mod router;
mod routes;
mod trace;

use std::{
    error::Error,
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::body::Bytes;
use prometheus_client::registry::Registry;
use queue_core::{EventFeed, LongPoll, Maintenance, Millis, Queues, Retry, Subscriber};
use service::{
    Config, Examiner, Hosts, Limits, Problem, Tls,
    config::{BindAddress, Origin},
    metrics::register_basics,
};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span, info, warn};

use auth::{Caller, Keyring};
use budget::{Budget, Share};
use metrics::Metrics;

pub use auth::Issue;
use router::router;

/// What all requests share.
#[derive(Clone)]
pub struct App {
    shared: Arc<Shared>,
}

struct Shared {
    queues: Queues,
    subscriber: Subscriber,
    receivers: LongPoll,
    listeners: EventFeed,
    /// Of those that listen to events.
    listening: Budget,
    keyring: Arc<Keyring>,
    /// Of those that wait for something.
    waiting: Budget,
    /// For bodies of requests that are received or held, and for answers, in bytes.
    body_memory: Budget,
    /// The part of it that answers may take.
    answer_memory: Budget,
    cors_origins: Vec<Origin>,
    body_limit: usize,
    request_timeout: Millis,
    max_wait: Millis,
    metrics: Metrics,
    examiner: Examiner,
    /// What `/openapi.json` answers, as soon as all routes are registered.
    description: OnceLock<Bytes>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl App {
    /// A place for a request that waits for so long; none is needed for one that does not wait.
    fn wait(&self, caller: &Caller, wait: Millis) -> Result<Option<Share>, Problem> {
        let place = (!wait.is_zero()).then(|| self.shared.waiting.take(caller.key(), 1)).transpose();
        place.map_err(|full| refusal::too_many_waits(&full))
    }

    /// Does something large to its end, also when the client that asked for it goes away meanwhile.
    async fn see_through<T: Send + 'static>(
        &self,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let task = self.shared.tasks.spawn(operation.instrument(Span::current()));
        task.await.map_err(|_| refusal::internal())
    }
}

/// Serves the API until `shutdown`.
///
/// # Errors
///
/// When the configuration can't be used or the address is taken.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>> {
    let redis = config.redis.connect()?.confirmed_by(config.durability.replicas);
    let subscriber = Subscriber::of_all_queues(redis.clone());
    let queues = Queues::new(redis.clone(), config.queues);
    let posted = queues.clone();
    let keyring = Arc::new(Keyring::new(config.auth.load_keys()?));
    let hosts = if keyring.is_empty() && config.api.bind.is_loopback() { Hosts::OfThisMachine } else { Hosts::Any };
    let tls = config.api.tls.as_ref().map(Tls::load).transpose()?;
    let listener = service::bind(&config.api.bind).await?;
    tell_who_may_do_what(&keyring, &config.api.bind);

    let listening = tokio::spawn({
        let (subscriber, shutdown) = (subscriber.clone(), shutdown.clone());
        async move { subscriber.run(shutdown).await }
    });
    let examiner = Examiner::new(redis.clone(), subscriber.clone());
    let examining = tokio::spawn(examiner.clone().run(shutdown.clone()));
    let declaring = tokio::spawn(declare(queues.clone(), shutdown.clone()));
    let tending =
        Maintenance::new(queues.clone(), subscriber.clone()).map(|janitor| tokio::spawn(janitor.run(shutdown.clone())));
    let listening_places = Budget::new(config.api.max_listeners, config.api.max_listeners_per_key);
    let mut registry = Registry::default();
    register_basics(&mut registry, "producer-api", &redis, &subscriber);
    let metrics = Metrics::new(registry, queues.clone(), listening_places.clone());
    let tasks = TaskTracker::new();
    let receivers = LongPoll::new(subscriber.clone(), shutdown.clone());
    let listeners = EventFeed::new(subscriber.clone(), shutdown.clone());
    let app = App {
        shared: Arc::new(Shared {
            queues,
            subscriber: subscriber.clone(),
            receivers: receivers.clone(),
            waiting: Budget::new(usize::MAX, config.api.max_waits_per_key),
            body_memory: Budget::new(config.api.max_body_memory, config.api.max_body_memory_per_client()),
            answer_memory: Budget::new(config.api.max_answer_memory(), config.api.max_answer_memory_per_client()),
            listeners: listeners.clone(),
            listening: listening_places,
            keyring,
            cors_origins: config.api.cors_origins.clone(),
            body_limit: config.api.body_limit,
            request_timeout: *config.api.request_timeout,
            max_wait: *config.api.max_wait,
            metrics,
            examiner,
            description: OnceLock::new(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        }),
    };
    let router = router(app);
    let limits = Limits { hosts, ..Limits::from(&config.api) };
    let grace = limits.grace;
    let serving = service::serve(listener, router, limits, tls, shutdown.clone());
    tokio::try_join!(serving, finish_tasks(tasks, shutdown, grace))?;
    posted.posts_done().await;
    receivers.stopped().await;
    listeners.stopped().await;
    listening.await?;
    examining.await?;
    declaring.await?;
    if let Some(tending) = tending {
        tending.await?;
    }
    Ok(())
}

fn tell_who_may_do_what(keyring: &Keyring, bind: &BindAddress) {
    if !keyring.is_empty() {
        let (keys, owners) = keyring.count();
        info!(keys, owners, "every request needs an API key");
        for key in keyring.expired() {
            warn!(key = %key.id, "an API key has expired: remove it from the configuration");
        }
    } else if bind.is_loopback() {
        info!("there are no API keys: everybody on this machine may do everything");
    } else {
        warn!(%bind, "auth.mode = \"none\": whoever reaches this address may do everything");
    }
}

/// Lets what is seen through end after `shutdown`, for at most `grace`.
async fn finish_tasks(tasks: TaskTracker, shutdown: CancellationToken, grace: Duration) -> io::Result<()> {
    shutdown.cancelled().await;
    tasks.close();
    if timeout(grace, tasks.wait()).await.is_err() {
        warn!("a large operation was still under way when the grace was over: a part of it is done, ask for it again");
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
