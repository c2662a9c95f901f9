//! The runner of one queue in one process: it leases messages while there is capacity, and hands them to the executor.

use std::sync::Arc;

use queue_core::{Error, LeaseRequest, Queue, Retry, wakeup::WakeNotifier};
use service::Outage;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    capacity::FairShare,
    context::WorkerContext,
    executor::Executor,
    heartbeat::TrackedLeases,
    lease_set::{LeaseSet, bytes_of},
    metrics::{QueueMetrics, gauge_value},
};
use crate::routing::QueueRoutes;

/// The runner of one queue. An idle one is one task and a notifier; the executor lives only from the first lease until a lease
/// call finds nothing and no lease is left.
pub(crate) struct QueueRunner {
    context: Arc<WorkerContext>,
    notifier: Arc<WakeNotifier>,
    routes: Arc<QueueRoutes>,
    metrics: Arc<QueueMetrics>,
    concurrency: usize,
    tracked: Arc<TrackedLeases>,
    lifetime: Lifetime,
}

/// The lifetime of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// A route names the queue: where the queue does not exist, the runner waits until it is created.
    Worker,
    /// The queue fits a pattern: the runner ends when the queue is deleted.
    Queue,
}

/// The reason for which a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunnerEnd {
    /// The worker stops.
    Stopped,
    /// The queue was deleted.
    QueueDeleted,
}

impl QueueRunner {
    pub(crate) fn new(
        context: Arc<WorkerContext>,
        queue: Arc<Queue>,
        routes: QueueRoutes,
        metrics: Arc<QueueMetrics>,
        lifetime: Lifetime,
    ) -> Self {
        let notifier = context.subscriber.notifier(queue.name());
        notifier.wake_only(&context.consumer);
        let leases = LeaseSet::new(Arc::clone(&context.capacity), Arc::clone(&metrics));
        let concurrency = routes.concurrency.unwrap_or(context.config.concurrency);
        let tracked = TrackedLeases::new(queue, leases);
        Self { context, notifier, routes: Arc::new(routes), metrics, concurrency, tracked, lifetime }
    }

    fn queue(&self) -> &Arc<Queue> {
        &self.tracked.queue
    }

    fn leases(&self) -> &Arc<LeaseSet> {
        &self.tracked.leases
    }

    /// Leases and runs messages until the worker stops or the queue is deleted. Then handlers may end within the grace, and
    /// the other messages are released with no attempt spent.
    ///
    /// Fails when the queue has a newer data layout: this version can do nothing there.
    pub(crate) async fn run(self) -> Result<RunnerEnd, Error> {
        let concurrency = gauge_value(self.concurrency);
        self.metrics.queues.inc();
        self.metrics.concurrency.inc_by(concurrency);
        let result = tokio::select! {
            result = self.lease_until_end() => result,
            () = self.pass_on_cancels() => unreachable!("it has no end"),
        };
        self.metrics.queues.dec();
        self.metrics.concurrency.dec_by(concurrency);
        result
    }

    /// The maximum number of messages of a lease call: half of the concurrency, so that handlers run while Redis works on the next
    /// call.
    fn most_per_call(&self) -> usize {
        self.concurrency.div_ceil(2).min(Queue::MAX_MESSAGES)
    }

    async fn pass_on_cancels(&self) {
        loop {
            let ids = self.notifier.cancelled().await;
            self.leases().cancel(|lease| ids.contains(lease.id()));
            // The next beat finds a message that is leased already but not in the set yet.
            self.context.heartbeat.beat_soon(self.queue().name());
        }
    }

    async fn lease_until_end(&self) -> Result<RunnerEnd, Error> {
        let mut executor = None;
        let result = self.lease_repeatedly(&mut executor).await;
        // The leases of a call whose answer was lost. If Redis is not available, they lapse.
        let _ = self.queue().return_lost_leases().await;
        if let Some(executor) = executor {
            executor.close(&self.context, &self.tracked, &self.metrics).await;
        }
        // So that the next owner of an exclusive queue need not wait for the owner time-out. If Redis is not available, it
        // waits.
        if result.as_ref().is_ok_and(|end| *end == RunnerEnd::Stopped) {
            let _ = self.queue().end_ownership(&self.context.consumer).await;
        }
        result
    }

    async fn lease_repeatedly(&self, executor: &mut Option<Executor>) -> Result<RunnerEnd, Error> {
        let stop = &self.context.stop.gracefully;
        let mut share = FairShare::new(self.routes.rank, self.routes.weight);
        let mut outage = LeaseOutage::default();
        loop {
            // Only the wait is cancelled; the answer of a lease call is always read.
            let permit = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(RunnerEnd::Stopped),
                permit = async {
                    self.notifier.woken(self.context.poll_interval()).await;
                    let free_slots = self.leases().free_slots(self.concurrency).await;
                    self.context.capacity.take(&mut share, free_slots.min(self.most_per_call())).await
                } => permit,
            };
            let request = LeaseRequest::new(self.context.consumer.clone(), permit.leases);
            match self.queue().lease(&request).await {
                Ok(leased) => {
                    outage.end(&self.context, self.queue());
                    // As soon as there is capacity if there may be more messages, else at the instant that Redis knows of.
                    if leased.more_is_ready || leased.deliveries.len() >= permit.leases {
                        self.notifier.wake();
                    }
                    if let Some(pause) = leased.call_again_in {
                        self.notifier.wake_in(pause);
                    }
                    if leased.deliveries.is_empty() {
                        drop(permit);
                        if self.leases().count() == 0
                            && let Some(executor) = executor.take()
                        {
                            executor.close(&self.context, &self.tracked, &self.metrics).await;
                        }
                        continue;
                    }
                    permit.keep(&mut share, leased.deliveries.len(), leased.deliveries.iter().map(bytes_of).sum());
                    let guarded = self.leases().add(leased.deliveries, leased.visibility_timeout.to_std());
                    self.context.heartbeat.track(&self.tracked, leased.visibility_timeout);
                    let start = || Executor::start(&self.context, self.queue(), &self.routes, &self.metrics);
                    executor.get_or_insert_with(start).run(guarded, &self.context.handlers);
                }
                Err(error @ Error::OtherLayout { .. }) => return Err(error),
                Err(Error::NoSuchQueue) => {
                    drop(permit);
                    outage.end(&self.context, self.queue());
                    // Handlers that still run have lost their leases: the next beat finds that.
                    self.context.heartbeat.beat_soon(self.queue().name());
                    if self.lifetime == Lifetime::Queue {
                        return Ok(RunnerEnd::QueueDeleted);
                    }
                }
                Err(error) => {
                    drop(permit);
                    outage.record(&self.context, self.queue(), &error);
                    self.notifier.wake();
                    tokio::select! {
                        () = sleep(outage.retry.pause()) => {}
                        () = stop.cancelled() => return Ok(RunnerEnd::Stopped),
                    }
                }
            }
        }
    }
}

/// An outage that prevents one runner from leasing. It is reported once; an outage of Redis is reported once for all runners.
struct LeaseOutage {
    retry: Retry,
    /// Whether the last error was that Redis is unavailable.
    redis_was_unavailable: bool,
    queue_outage: Outage,
}

impl Default for LeaseOutage {
    fn default() -> Self {
        Self { retry: Retry::new(), redis_was_unavailable: false, queue_outage: Outage::reported_once() }
    }
}

impl LeaseOutage {
    /// Records that the runner could not lease.
    fn record(&mut self, context: &WorkerContext, queue: &Queue, error: &Error) {
        if matches!(error, Error::Unavailable(_)) {
            self.redis_was_unavailable = true;
            if context.redis_outage.record_failure() {
                warn!(queue = %queue.name(), %error, "can't lease, trying again");
            }
        } else if self.queue_outage.record_failure() {
            warn!(queue = %queue.name(), %error, "can't lease from this queue, trying again");
        }
    }

    /// Records that the runner could lease.
    fn end(&mut self, context: &WorkerContext, queue: &Queue) {
        if self.queue_outage.record_success() || self.redis_was_unavailable && context.redis_outage.record_success() {
            info!(queue = %queue.name(), "leasing again");
        }
        *self = Self::default();
    }
}
