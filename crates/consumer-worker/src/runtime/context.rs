//! The state that all runners of a worker (one for each queue) share, and the interval in which runners poll.

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

/// The minimum average time between two polls, over all idle queues and all workers, so that the polls together cost Redis
/// little. A poll of a queue by one worker finds due messages for all workers, so each queue is still polled often enough.
const MIN_POLL_GAP: Duration = Duration::from_millis(10);

/// The state that all runners of a worker share.
pub(crate) struct WorkerContext {
    pub(crate) consumer: ConsumerId,
    pub(crate) subscriber: Subscriber,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) capacity: Arc<Capacity>,
    /// The Tokio runtime that runs the handlers.
    pub(crate) handlers: Handle,
    /// The queues, with connections that belong to the runtime of the handlers.
    pub(crate) queues_of_handlers: Queues,
    pub(crate) config: config::Worker,
    pub(crate) stop: Stop,
    /// The outage of Redis, which is logged once for all runners.
    pub(crate) redis_outage: Outage,
    pub(crate) runner_count: AtomicU32,
    /// The number of workers, including this worker.
    pub(crate) worker_count: AtomicU32,
}

impl WorkerContext {
    /// Returns the pause between two polls of an idle queue, which is longer if there are many queues and workers. The pause
    /// between two polls is random, so that the polls of many queues are spread over time.
    pub(crate) fn idle_poll_pause(&self) -> Duration {
        self.interval_for_poll_count(self.runner_count.load(Ordering::Relaxed)).mul_f64(rand::random_range(0.75..=1.0))
    }

    /// Returns the interval in which each worker makes `polls` polls, so that all workers together keep to [`MIN_POLL_GAP`].
    pub(super) fn interval_for_poll_count(&self, polls: u32) -> Duration {
        let polls = polls.saturating_mul(self.worker_count.load(Ordering::Relaxed));
        self.config.poll_interval.to_std().max(MIN_POLL_GAP.saturating_mul(polls))
    }
}
