//! The state that all runners of a worker share, and the periodic tasks of the worker as a whole: discovering queues, counting
//! workers, and maintaining the index of queues.

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

use super::{capacity::Capacity, heartbeat::Heartbeat};
use crate::config;

/// The least time between two slow polls of any queues by any workers, so that all polls together cost Redis next to nothing. A
/// poll finds the work for all workers, so each queue is polled often enough.
const BETWEEN_POLLS: Duration = Duration::from_millis(10);
/// The pause between two counts of the workers.
const BETWEEN_COUNTS: Duration = Duration::from_secs(30);
/// The pause between two checks of the names that this process uses in the index of queues.
const BETWEEN_INDEX_CHECKS: Duration = Duration::from_secs(60);
/// The pause until the index of queues is read again after an error.
const AFTER_AN_ERROR: Duration = Duration::from_secs(1);

/// The state that all runners of a worker share.
pub(crate) struct WorkerContext {
    pub(crate) consumer: ConsumerId,
    pub(crate) subscriber: Subscriber,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) capacity: Arc<Capacity>,
    /// The runtime of the handlers.
    pub(crate) handlers: Handle,
    /// Queues over connections that belong to the runtime of the handlers.
    pub(crate) queues_of_handlers: Queues,
    pub(crate) config: config::Worker,
    pub(crate) stop: Stop,
    /// An outage of Redis, which is reported once for all runners.
    pub(crate) redis_outage: Outage,
    pub(crate) runners: AtomicU32,
    /// The number of workers, this one among them.
    pub(crate) workers: AtomicU32,
}

impl WorkerContext {
    /// The pause between two slow polls of a queue: longer where there are so many queues and workers that their polls would
    /// cost too much. It varies, so that the polls do not come all at once.
    pub(crate) fn poll_interval(&self) -> Duration {
        self.interval(self.runners.load(Ordering::Relaxed)).mul_f64(rand::random_range(0.75..=1.0))
    }

    /// The pause between polls when each may lead to this many others.
    fn interval(&self, polls: u32) -> Duration {
        let polls = polls.saturating_mul(self.workers.load(Ordering::Relaxed));
        self.config.poll_interval.to_std().max(BETWEEN_POLLS.saturating_mul(polls))
    }

    /// Counts the workers now and then. Has no end.
    pub(crate) async fn count_workers(&self, queues: &Queues) {
        let mut connection = self.subscriber.connection();
        loop {
            // After an error the number stays; the runners report an outage.
            if let Ok(workers) = queues.workers().await {
                self.workers.store(workers.max(1), Ordering::Relaxed);
            }
            // A worker that starts is counted by the others within the pause, by each at an instant of its own.
            let pause = BETWEEN_COUNTS.mul_f64(rand::random_range(0.75..=1.0));
            // The sender can't be gone: the subscriber owns it.
            let _ = timeout(pause, connection.changed()).await;
        }
    }

    /// Adds the names of the queues that this process uses to the index, where they are missing. Has no end.
    pub(crate) async fn maintain_index(&self, queues: &Queues) {
        loop {
            sleep(BETWEEN_INDEX_CHECKS).await;
            for queues in [queues, &self.queues_of_handlers] {
                // A name that fails is added the next time; the runners report an outage.
                let _ = queues.restore_used_names().await;
            }
        }
    }

    /// Reports the existing queues that fit patterns to the subscriber: after each new subscription, because earlier
    /// notifications were not received, and now and then. Has no end.
    pub(crate) async fn discover_queues(&self, queues: &Queues, starts: &[String]) {
        let mut connection = self.subscriber.connection();
        let mut pause = self.config.poll_interval.to_std();
        let outage = Outage::reported_once();
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                // The sender can't be gone: the subscriber owns it.
                _ = connection.changed() => if !*connection.borrow_and_update() {
                    continue;
                }
            }
            match names_from(queues, starts).await {
                Ok(names) => {
                    pause = self.interval(u32::try_from(names.len()).unwrap_or(u32::MAX));
                    self.subscriber.announce(names);
                    outage.is_over();
                }
                Err(error) => {
                    if outage.goes_on() {
                        warn!(%error, "can't see which queues there are, trying on");
                    }
                    pause = AFTER_AN_ERROR;
                }
            }
        }
    }
}

/// The names of the queues that begin with any of the starts.
async fn names_from(queues: &Queues, starts: &[String]) -> Result<Vec<QueueName>, queue_core::Error> {
    let mut names = Vec::new();
    for start in starts {
        names.extend(queues.names_from(start).await?);
    }
    Ok(names)
}
