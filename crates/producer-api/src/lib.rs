#![doc = include_str!("../README.md")]

mod api;
mod app;
mod auth;
mod budget;
mod dashboard;
mod errors;
mod metrics;
mod openapi;
mod request;
mod response;
mod router;
mod routes;

use std::{error::Error, io, time::Duration};

use queue_core::{Maintenance, Queues, Retry, schedule::Scheduler, wakeup::Subscriber};
use service::{Config, Hosts, Limits, Tls, config::BindAddress};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use app::App;
use auth::keyring::Keyring;

pub use auth::issue::MakeKey;

/// Serves the API until `shutdown` is cancelled.
///
/// # Errors
///
/// Returns an error if the configuration is invalid, or if the API can't listen on the configured address.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), Box<dyn Error + Send + Sync>> {
    let redis = config.redis.connect()?.require_replicas(config.durability.replicas);
    let subscriber = Subscriber::for_all_queues(redis.clone());
    let queues = Queues::new(redis, config.queues);
    let keyring = Keyring::new(config.auth.load_keys()?);
    let hosts = if keyring.is_empty() && config.api.bind.is_loopback() { Hosts::LocalOnly } else { Hosts::Any };
    let tls = config.api.tls.as_ref().map(Tls::load).transpose()?;
    let listener = service::bind(&config.api.bind).await?;
    log_access(&keyring, &config.api.bind);

    let limits = Limits { hosts, ..Limits::from(&config.api) };
    let app = App::new(queues.clone(), subscriber.clone(), keyring, (config.api, config.dashboard), shutdown.clone());
    let mut background_tasks = vec![
        tokio::spawn({
            let (subscriber, shutdown) = (subscriber.clone(), shutdown.clone());
            async move { subscriber.run(shutdown).await }
        }),
        tokio::spawn(app.health_monitor.clone().run(shutdown.clone())),
        tokio::spawn(apply_declarations(queues.clone(), shutdown.clone())),
    ];
    let scheduler = Scheduler::new(queues.clone(), subscriber.clone());
    background_tasks.extend(scheduler.map(|scheduler| tokio::spawn(scheduler.run(shutdown.clone()))));
    let maintenance = Maintenance::new(queues.clone(), subscriber);
    background_tasks.extend(maintenance.map(|maintenance| tokio::spawn(maintenance.run(shutdown.clone()))));
    let shutdown_grace = limits.grace;
    let server_task = service::serve(listener, router::router(&app), limits, tls, shutdown.clone());
    tokio::try_join!(server_task, finish_tasks(app.tasks.clone(), shutdown, shutdown_grace))?;
    queues.posts_done().await;
    app.long_poll.wait_until_stopped().await;
    app.event_feed.wait_until_stopped().await;
    for task in background_tasks {
        task.await?;
    }
    Ok(())
}

/// Logs which clients the API serves.
fn log_access(keyring: &Keyring, bind: &BindAddress) {
    if !keyring.is_empty() {
        let (keys, owners) = keyring.count_keys_and_ids();
        info!(keys, owners, "every request needs an API key");
        for key in keyring.expired_keys() {
            warn!(key = %key.id, "an API key has expired: remove it from the configuration");
        }
    } else if bind.is_loopback() {
        info!("there are no API keys: every program on this machine may do everything");
    } else {
        warn!(%bind, "auth.mode = \"none\": every client that reaches this address may do everything");
    }
}

/// Waits until `shutdown` is cancelled, and then until the operations in `tasks` have ended, for at most `grace`.
async fn finish_tasks(tasks: TaskTracker, shutdown: CancellationToken, grace: Duration) -> io::Result<()> {
    shutdown.cancelled().await;
    tasks.close();
    if timeout(grace, tasks.wait()).await.is_err() {
        warn!(
            "a long operation was still running when the grace period ended: it is done only in part; request it again"
        );
    }
    Ok(())
}

/// The pause before the process tries again to apply declared settings that contradict a queue's messages or schedules.
const PAUSE_AFTER_CONFLICT: Duration = Duration::from_secs(10);

/// Writes the declared settings and schedules to Redis, and tries again until the write succeeds. The API already serves
/// requests before the declared settings and schedules are written.
async fn apply_declarations(queues: Queues, shutdown: CancellationToken) {
    let mut retry = Retry::new();
    let mut is_failure_logged = false;
    while let Err(error) = queues.declare().await {
        if !is_failure_logged {
            warn!(%error, "the declared settings and schedules are not applied yet");
            is_failure_logged = true;
        }
        let pause = if let queue_core::Error::InvalidSetting(_) = error { PAUSE_AFTER_CONFLICT } else { retry.pause() };
        tokio::select! {
            () = sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
    if is_failure_logged {
        info!("the declared settings and schedules are applied");
    }
}
