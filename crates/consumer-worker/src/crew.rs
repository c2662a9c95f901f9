//! The state that all lines of a worker share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use queue_core::{ConsumerId, QueueName, Queues, Subscriber};
use service::{Outage, Stop};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::{config, heartbeat::Heartbeat, places::Places};

/// The slow polls of all queues by all workers together are at least so far apart, so that they cost Redis next to nothing
/// whatever their numbers. Whoever polls finds what is there for all, so each queue is looked at often enough.
const BETWEEN_POLLS: Duration = Duration::from_millis(10);

/// How often the workers are counted.
const COUNT_WORKERS_EVERY: Duration = Duration::from_secs(30);
/// How often the names of queues are seen to that this process has used.
const SEE_TO_NAMES_EVERY: Duration = Duration::from_secs(60);
/// How soon the index of queues is asked again when it could not be.
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);

/// What all lines of a worker share.
pub(crate) struct Crew {
    pub(crate) consumer: ConsumerId,
    pub(crate) subscriber: Subscriber,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) places: Arc<Places>,
    /// Where handlers run.
    pub(crate) handlers: Handle,
    /// Over connections that belong to the handlers' runtime.
    pub(crate) queues_of_handlers: Queues,
    pub(crate) config: config::Worker,
    pub(crate) stop: Stop,
    /// That Redis is away, which is told once for all lines.
    pub(crate) redis_is_away: Outage,
    pub(crate) lines: AtomicU32,
    /// How many workers there are, this one among them.
    pub(crate) workers: AtomicU32,
}

impl Crew {
    /// The slow poll of a queue; slower where there are so many that their polls would cost too much. Spread, so that they do
    /// not come all at once.
    pub(crate) fn poll_interval(&self) -> Duration {
        self.interval(self.lines.load(Ordering::Relaxed)).mul_f64(rand::random_range(0.75..=1.0))
    }

    /// How far looks are apart of which each may lead to so many others.
    fn interval(&self, looks: u32) -> Duration {
        let looks = looks.saturating_mul(self.workers.load(Ordering::Relaxed));
        self.config.poll_interval.to_std().max(BETWEEN_POLLS.saturating_mul(looks))
    }

    /// Keeps in mind how many workers there are. Has no end.
    pub(crate) async fn count_workers(&self, queues: &Queues) {
        let mut connection = self.subscriber.connection();
        loop {
            // Not known is as before; the lines tell of an outage.
            if let Ok(workers) = queues.workers().await {
                self.workers.store(workers.max(1), Ordering::Relaxed);
            }
            // A worker that starts is counted by the others within the time, each at an instant of its own.
            let pause = COUNT_WORKERS_EVERY.mul_f64(rand::random_range(0.75..=1.0));
            // The sender is held by the subscriber.
            let _ = timeout(pause, connection.changed()).await;
        }
    }

    /// Sees to it that the queues that this process uses are found by their names. Has no end.
    pub(crate) async fn see_to_names(&self, queues: &Queues) {
        loop {
            sleep(SEE_TO_NAMES_EVERY).await;
            for queues in [queues, &self.queues_of_handlers] {
                // A name that fails is seen to the next time; the lines tell of an outage.
                let _ = queues.restore_used_names().await;
            }
        }
    }

    /// Introduces the queues that there are and that fit patterns: after each new subscription, because what was told before
    /// went unheard, and now and then. Has no end.
    pub(crate) async fn look_at_the_index(&self, queues: &Queues, starts: &[String]) {
        let mut connection = self.subscriber.connection();
        let mut pause = self.config.poll_interval.to_std();
        let trouble = Outage::reported_once();
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                // The sender is held by the subscriber.
                _ = connection.changed() => if !*connection.borrow_and_update() {
                    continue;
                }
            }
            match names_from(queues, starts).await {
                Ok(names) => {
                    pause = self.interval(u32::try_from(names.len()).unwrap_or(u32::MAX));
                    self.subscriber.announce(names);
                    trouble.is_over();
                }
                Err(error) => {
                    if trouble.goes_on() {
                        warn!(%error, "can't see which queues there are, trying on");
                    }
                    pause = AFTER_AN_ERROR;
                }
            }
        }
    }
}

/// The names of the queues that fit the patterns.
async fn names_from(queues: &Queues, starts: &[String]) -> Result<Vec<QueueName>, queue_core::Error> {
    let mut names = Vec::new();
    for start in starts {
        names.extend(queues.names_from(start).await?);
    }
    Ok(names)
}
