//! The runner of one queue in one process: it leases messages while there is capacity, and hands them to the executor.

use std::{sync::Arc, time::Duration};

use queue_core::{Error, LeaseRequest, LeaseToken, Queue, Retry, wakeup::WakeNotifier};
use service::Outage;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{
    capacity::FairShare,
    context::WorkerContext,
    executor::Executor,
    handler_slots::{HandlerSlots, UnstartedMessage},
    heartbeat::TrackedLeases,
    lease_ahead::LeaseAhead,
    lease_set::{LeaseGuard, LeaseSet, data_bytes},
    metrics::{QueueMetrics, gauge_value},
    settler,
};
use crate::routing::QueueRoutes;

/// The maximum time that a runner leases no other message after a message that may have killed workers (a suspect message). A
/// message is suspect if its next lapse makes it fail, because its handler may be what kills the workers. Until the handler of
/// a suspect message has ended, its runner leases no other message. If the handler kills the worker, no other message of the
/// queue fails with the suspect message.
const SUSPECT_MESSAGE_TIME_LIMIT: Duration = Duration::from_secs(1);

/// The runner of one queue. An idle runner has only one task, and the notifier that wakes the task when its queue has
/// messages. A runner starts its executor for the first lease, and closes the executor when a lease call returns no message
/// and no lease is left.
pub(crate) struct QueueRunner {
    context: Arc<WorkerContext>,
    notifier: Arc<WakeNotifier>,
    routes: Arc<QueueRoutes>,
    metrics: Arc<QueueMetrics>,
    concurrency: usize,
    slots: Arc<HandlerSlots>,
    tracked: Arc<TrackedLeases>,
    lifetime: RunnerLifetime,
}

/// Whether the runner of a queue ends with the worker or with its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunnerLifetime {
    /// A route names the queue: while the queue does not exist, the runner waits until it is created.
    Worker,
    /// A pattern of a route matches the queue: the runner ends when the queue is deleted.
    Queue,
}

/// The reason for which a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunnerEnd {
    /// The runner ended because the worker stops.
    Stopped,
    /// The runner ended because the queue was deleted.
    QueueDeleted,
}

impl QueueRunner {
    pub(crate) fn new(
        context: Arc<WorkerContext>,
        queue: Arc<Queue>,
        routes: QueueRoutes,
        metrics: Arc<QueueMetrics>,
        lifetime: RunnerLifetime,
    ) -> Self {
        let notifier = context.subscriber.notifier(queue.name());
        notifier.wake_only(&context.consumer);
        let leases = LeaseSet::new(Arc::clone(&context.capacity), Arc::clone(&metrics));
        let concurrency = routes.concurrency.unwrap_or(context.config.concurrency);
        let tracked_leases = TrackedLeases::new(queue, leases);
        let slots = HandlerSlots::new(concurrency);
        Self {
            context,
            notifier,
            routes: Arc::new(routes),
            metrics,
            concurrency,
            slots,
            tracked: tracked_leases,
            lifetime,
        }
    }

    fn queue(&self) -> &Arc<Queue> {
        &self.tracked.queue
    }

    fn leases(&self) -> &Arc<LeaseSet> {
        &self.tracked.leases
    }

    /// Leases messages and runs their handlers until the worker stops or the queue is deleted. When the worker stops, running
    /// handlers may end within `shutdown_grace`; then the messages of handlers that have not ended are released with no attempt
    /// spent.
    ///
    /// Returns an error if the queue has the layout of another version of Drover.
    pub(crate) async fn run(self) -> Result<RunnerEnd, Error> {
        let concurrency = gauge_value(self.concurrency);
        self.metrics.queues.inc();
        self.metrics.concurrency.inc_by(concurrency);
        let result = tokio::select! {
            result = self.lease_until_end() => result,
            () = self.pass_on_cancels() => unreachable!("this future never completes"),
            () = self.return_overdue_messages() => unreachable!("this future never completes"),
        };
        self.metrics.queues.dec();
        self.metrics.concurrency.dec_by(concurrency);
        result
    }

    async fn pass_on_cancels(&self) {
        loop {
            let ids = self.notifier.cancelled().await;
            self.leases().cancel(|lease| ids.contains(lease.id()));
            // A message may be cancelled after Redis has leased it, but before the runner's lease set contains its lease. The
            // runner makes the heartbeat extend the leases early, because the answer to an extension names cancelled messages.
            self.context.heartbeat.extend_soon(self.queue().name());
        }
    }

    async fn return_overdue_messages(&self) {
        loop {
            self.return_unstarted(self.slots.take_messages_when_overdue().await).await;
        }
    }

    /// Returns leased messages to their queue if their handlers have not started. The leases of the returned messages
    /// keep their capacity until Redis answers.
    async fn return_unstarted(&self, messages: Vec<UnstartedMessage>) {
        if messages.is_empty() {
            return;
        }
        let lease_guards: Vec<LeaseGuard> = messages.into_iter().map(|message| message.lease).collect();
        let leases: Vec<LeaseToken> = lease_guards.iter().map(|guard| guard.token.clone()).collect();
        settler::undo_leases(self.queue(), &leases, &self.context.stop).await;
        LeaseGuard::drop_all(lease_guards);
    }

    async fn lease_until_end(&self) -> Result<RunnerEnd, Error> {
        let mut executor = None;
        let result = self.lease_repeatedly(&mut executor).await;
        self.return_unstarted(self.slots.take_waiting()).await;
        // `return_lost_leases` undoes the leases of an earlier lease call whose answer was lost. If Redis is not available,
        // the leases whose answer was lost will lapse.
        let _ = self.queue().return_lost_leases().await;
        if let Some(executor) = executor {
            executor.close(&self.context, &self.tracked, &self.metrics).await;
        }
        // The worker ends its ownership of an exclusive queue, so that the next owner need not wait for the owner timeout. If
        // Redis is not available when the worker stops, the next owner of the exclusive queue waits for the owner timeout.
        if result.as_ref().is_ok_and(|end| *end == RunnerEnd::Stopped) {
            let _ = self.queue().end_ownership(&self.context.consumer).await;
        }
        result
    }

    async fn lease_repeatedly(&self, executor: &mut Option<Executor>) -> Result<RunnerEnd, Error> {
        let stop_token = &self.context.stop.gracefully;
        let mut fair_share = FairShare::new(self.routes.rank, self.routes.weight);
        let mut outage = LeaseOutage::default();
        let (mut lease_ahead, mut permits_ahead) = (LeaseAhead::default(), false);
        loop {
            // A stop of the worker interrupts only the wait before a lease call; the worker always reads the answer to
            // a call that was sent.
            let permit = tokio::select! {
                biased;
                () = stop_token.cancelled() => return Ok(RunnerEnd::Stopped),
                permit = async {
                    self.notifier.woken(self.context.idle_poll_pause()).await;
                    let max_leased_ahead = lease_ahead.max_messages(&self.slots);
                    let max_unended_handlers = self.concurrency + if permits_ahead { max_leased_ahead } else { 0 };
                    let free_room = self.leases().wait_for_room(max_unended_handlers).await;
                    // One lease call leases at most half of the messages that may be leased, so that handlers run during the
                    // next call.
                    let wanted_permits = free_room.min(max_unended_handlers.div_ceil(2)).min(Queue::MAX_MESSAGES);
                    self.context.capacity.take_permit(&mut fair_share, wanted_permits).await
                } => permit,
            };
            let request = LeaseRequest::new(self.context.consumer.clone(), permit.leases);
            match self.queue().lease(&request).await {
                Ok(leased) => {
                    outage.record_success(&self.context, self.queue());
                    permits_ahead = leased.permits_ahead;
                    if !permits_ahead {
                        self.return_unstarted(self.slots.take_waiting()).await;
                    }
                    // If there may be more messages, the runner leases again as soon as it has capacity; otherwise, the runner
                    // leases again after the pause that the call returned.
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
                    permit.keep(
                        &mut fair_share,
                        leased.deliveries.len(),
                        leased.deliveries.iter().map(data_bytes).sum(),
                    );
                    let lease_guards = self.leases().add(&leased.deliveries, leased.visibility_timeout.to_std());
                    self.context.heartbeat.track(&self.tracked, leased.visibility_timeout);
                    let suspect_handler =
                        lease_guards.first().filter(|_| leased.goes_alone).map(|guard| guard.cancel.clone());
                    let start_executor =
                        || Executor::start(&self.context, self.queue(), &self.routes, &self.metrics, &self.slots);
                    executor.get_or_insert_with(start_executor).run(
                        leased.deliveries,
                        lease_guards,
                        &self.context.handlers,
                    );
                    if let Some(suspect_handler) = suspect_handler {
                        let handler_end = self.leases().wait_until_ended(&suspect_handler);
                        tokio::select! {
                            _ = timeout(SUSPECT_MESSAGE_TIME_LIMIT, handler_end) => {}
                            () = stop_token.cancelled() => return Ok(RunnerEnd::Stopped),
                        }
                    }
                }
                Err(error @ Error::OtherLayout { .. }) => return Err(error),
                Err(Error::NoSuchQueue) => {
                    drop(permit);
                    outage.record_success(&self.context, self.queue());
                    // The queue does not exist, so its handlers that still run have lost their leases. The runner makes
                    // the heartbeat extend the leases early: the heartbeat then finds the lost leases and stops their
                    // handlers.
                    self.context.heartbeat.extend_soon(self.queue().name());
                    if self.lifetime == RunnerLifetime::Queue {
                        return Ok(RunnerEnd::QueueDeleted);
                    }
                }
                Err(error) => {
                    drop(permit);
                    outage.record_failure(&self.context, self.queue(), &error);
                    self.notifier.wake();
                    tokio::select! {
                        () = sleep(outage.retry.pause()) => {}
                        () = stop_token.cancelled() => return Ok(RunnerEnd::Stopped),
                    }
                }
            }
        }
    }
}

/// An outage that prevents one runner from leasing. The runner logs its outage once; an outage of Redis is logged once for all
/// runners.
struct LeaseOutage {
    retry: Retry,
    /// Whether the last lease call failed because Redis was unavailable.
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
    fn record_failure(&mut self, context: &WorkerContext, queue: &Queue, error: &Error) {
        if error.is_unavailable() {
            self.redis_was_unavailable = true;
            if context.redis_outage.record_failure() {
                warn!(queue = %queue.name(), %error, "can't lease, trying again");
            }
        } else if self.queue_outage.record_failure() {
            warn!(queue = %queue.name(), %error, "can't lease from this queue, trying again");
        }
    }

    /// Records that a lease call succeeded, or that there is no queue to lease from.
    fn record_success(&mut self, context: &WorkerContext, queue: &Queue) {
        if self.queue_outage.record_success() || self.redis_was_unavailable && context.redis_outage.record_success() {
            info!(queue = %queue.name(), "leasing again");
        }
        *self = Self::default();
    }
}
