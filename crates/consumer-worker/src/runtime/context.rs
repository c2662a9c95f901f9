//! The state that all runners of a worker share, and how often they poll.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use queue_core::{ConsumerId, Queues, wakeup::Subscriber};
use service::{Outage, Stop};
use tokio::runtime::Handle;

use super::{capacity::Capacity, heartbeat::Heartbeat};
use crate::config;

/// The minimum average time between two slow polls, over all queues and all workers, so that the polls together cost Redis
/// little. A poll by any worker finds due work for all workers, so each queue is still polled often enough.
const MIN_POLL_GAP: Duration = Duration::from_millis(10);

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
    pub(super) fn interval(&self, polls: u32) -> Duration {
        let polls = polls.saturating_mul(self.workers.load(Ordering::Relaxed));
        self.config.poll_interval.to_std().max(MIN_POLL_GAP.saturating_mul(polls))
    }
}
