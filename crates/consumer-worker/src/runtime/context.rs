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

/// The minimum average time between two slow polls, over all queues and all workers, so that the polls together cost Redis
/// little. A poll by any worker finds due work for all workers, so each queue is still polled often enough.
const MIN_POLL_GAP: Duration = Duration::from_millis(10);
/// The pause between two counts of the workers.
const COUNT_INTERVAL: Duration = Duration::from_secs(30);
/// The pause between two checks of the names that this process uses in the index of queues.
const INDEX_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// The pause until the index of queues is read again after an error.
const RETRY_AFTER_ERROR: Duration = Duration::from_secs(1);

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
    /// The outage of Redis, which is logged once for all runners.
    pub(crate) redis_outage: Outage,
    pub(crate) runners: AtomicU32,
    /// The number of workers, this one among them.
    pub(crate) workers: AtomicU32,
}

impl WorkerContext {
    /// The pause between two slow polls of a queue: longer if many queues and workers poll. The pause is random, so that the
    /// polls are spread over time.
    pub(crate) fn poll_interval(&self) -> Duration {
        self.interval(self.runners.load(Ordering::Relaxed)).mul_f64(rand::random_range(0.75..=1.0))
    }

    /// The pause between two polls if each worker makes this many polls in that time.
    fn interval(&self, polls: u32) -> Duration {
        let polls = polls.saturating_mul(self.workers.load(Ordering::Relaxed));
        self.config.poll_interval.to_std().max(MIN_POLL_GAP.saturating_mul(polls))
    }

    /// Counts the workers periodically. The future never completes.
    pub(crate) async fn count_workers(&self, queues: &Queues) {
        let mut connection = self.subscriber.connection();
        loop {
            // After an error the last number is kept; the runners log the outage.
            if let Ok(workers) = queues.workers().await {
                self.workers.store(workers.max(1), Ordering::Relaxed);
            }
            // Other workers notice a new worker within one pause, each at a random time.
            let pause = COUNT_INTERVAL.mul_f64(rand::random_range(0.75..=1.0));
            // The sender can't be gone: the subscriber owns it.
            let _ = timeout(pause, connection.changed()).await;
        }
    }

    /// Periodically adds missing names of the queues that this process uses to the index. The future never completes.
    pub(crate) async fn maintain_index(&self, queues: &Queues) {
        loop {
            sleep(INDEX_CHECK_INTERVAL).await;
            for queues in [queues, &self.queues_of_handlers] {
                // After an error the next iteration tries again; the runners log the outage.
                let _ = queues.restore_used_names().await;
            }
        }
    }

    /// Reports the existing queues that match patterns to the subscriber: periodically, and after each new subscription,
    /// because earlier notifications may be lost. The future never completes.
    pub(crate) async fn discover_queues(&self, queues: &Queues, prefixes: &[String]) {
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
            match names_from(queues, prefixes).await {
                Ok(names) => {
                    pause = self.interval(u32::try_from(names.len()).unwrap_or(u32::MAX));
                    self.subscriber.announce(names);
                    outage.is_over();
                }
                Err(error) => {
                    if outage.goes_on() {
                        warn!(%error, "can't see which queues there are, trying on");
                    }
                    pause = RETRY_AFTER_ERROR;
                }
            }
        }
    }
}

/// The names of the queues that begin with any of the prefixes.
async fn names_from(queues: &Queues, prefixes: &[String]) -> Result<Vec<QueueName>, queue_core::Error> {
    let mut names = Vec::new();
    for prefix in prefixes {
        names.extend(queues.names_from(prefix).await?);
    }
    Ok(names)
}
