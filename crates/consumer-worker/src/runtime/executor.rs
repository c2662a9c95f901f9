//! The executor of one queue's runner: it runs the handlers of leased messages on the handlers' runtime, and passes leases whose
//! handlers have ended to the settler.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use queue_core::{Delivery, Queue};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{
    context::WorkerContext,
    handler_slots::{HandlerSlots, Slot, UnstartedMessage},
    heartbeat::TrackedLeases,
    lease_set::LeaseGuard,
    metrics::{LeaseOutcome, QueueMetrics},
    run::{LeaseState, run},
    settler::{self, FinishedJob, PendingSettlement, Settler},
};
use crate::{job::Job, routing::QueueRoutes};

/// The maximum time that a closing executor waits until the cancelled handlers are dropped. A handler that blocks its
/// thread can't be dropped.
const MAX_HANDLER_DROP_TIME: Duration = Duration::from_millis(200);

/// Runs the handlers of one queue.
pub(crate) struct Executor {
    shared: Arc<ExecutorState>,
    slots: Arc<HandlerSlots>,
    jobs: TaskTracker,
    settling: JoinHandle<()>,
    /// The token that is cancelled when the settler must accept no more leases.
    stop_accepting: CancellationToken,
}

/// The state that the handlers of one queue share.
struct ExecutorState {
    /// The queue, with connections of the handlers' runtime, so that calls of handlers can't delay the worker's own calls.
    queue: Arc<Queue>,
    routes: Arc<QueueRoutes>,
    metrics: Arc<QueueMetrics>,
    settlement_sender: mpsc::Sender<PendingSettlement>,
    /// The token that is cancelled when handlers that still run must be dropped.
    drop_handlers: CancellationToken,
    /// The leases of handlers that the executor dropped because the worker stops. The executor keeps these leases in the
    /// lease set until `close` releases all their messages together, in their order.
    dropped: Mutex<Vec<LeaseGuard>>,
}

impl Executor {
    /// Creates an executor, and starts its settler.
    pub(crate) fn start(
        context: &WorkerContext,
        queue: &Arc<Queue>,
        routes: &Arc<QueueRoutes>,
        metrics: &Arc<QueueMetrics>,
        slots: &Arc<HandlerSlots>,
    ) -> Self {
        // The channel to the settler has room for all leases, so sending a lease never waits.
        let (settlement_sender, to_settle) = mpsc::channel(context.config.max_leases);
        let stop_accepting = CancellationToken::new();
        let settler = Settler {
            queue: Arc::clone(queue),
            metrics: Arc::clone(metrics),
            stop_accepting: stop_accepting.clone(),
            stop: context.stop.clone(),
        };
        let initial_state = ExecutorState {
            queue: context.queues_of_handlers.queue(queue.name()),
            routes: Arc::clone(routes),
            metrics: Arc::clone(metrics),
            settlement_sender,
            drop_handlers: CancellationToken::new(),
            dropped: Mutex::default(),
        };
        let settler_task = tokio::spawn(settler.run(to_settle));
        let slots = Arc::clone(slots);
        Self {
            shared: Arc::new(initial_state),
            slots,
            jobs: TaskTracker::new(),
            settling: settler_task,
            stop_accepting,
        }
    }

    /// Runs the handlers of leased messages. One task on the handlers' runtime starts all handlers that get a slot; the other
    /// messages wait for a free slot.
    pub(crate) fn run(&self, deliveries: Vec<Delivery>, leases: Vec<LeaseGuard>, handlers: &Handle) {
        let waits_since = Instant::now();
        let mut starting_messages = self.slots.add(deliveries.into_iter().zip(leases).map(|(delivery, lease)| {
            let ready_at = delivery.ready_at;
            let job = Job::new(Arc::clone(&self.shared.queue), delivery, lease.cancel.clone());
            UnstartedMessage { job, ready_at, lease, waits_since }
        }));
        if starting_messages.len() > 1 {
            let (tracker, shared) = (self.jobs.clone(), Arc::clone(&self.shared));
            let start_handlers = async move {
                for (slot, message) in starting_messages {
                    drop(tracker.spawn(Arc::clone(&shared).run_jobs(slot, message)));
                }
            };
            drop(self.jobs.spawn_on(start_handlers, handlers));
        } else if let Some((slot, message)) = starting_messages.pop() {
            drop(self.jobs.spawn_on(Arc::clone(&self.shared).run_jobs(slot, message), handlers));
        }
    }

    /// Waits until the handlers have ended, at most for `shutdown_grace`, then drops the handlers that still run, and
    /// releases their messages.
    pub(crate) async fn close(self, context: &WorkerContext, tracked: &TrackedLeases, metrics: &QueueMetrics) {
        let Self { shared, slots: _, jobs, settling, stop_accepting } = self;
        let queue = &tracked.queue;
        jobs.close();
        let have_all_ended = tokio::select! {
            ended = timeout(context.config.shutdown_grace.to_std(), jobs.wait()) => ended.is_ok(),
            () = context.stop.at_once.cancelled() => false,
        };
        if !have_all_ended {
            shared.drop_handlers.cancel();
            let has_blocked_handlers = timeout(MAX_HANDLER_DROP_TIME, jobs.wait()).await.is_err();
            let leases = tracked.leases.leases_of_unfinished_handlers();
            info!(queue = %queue.name(), messages = leases.len(), "the grace is over: unfinished messages are released");
            if has_blocked_handlers {
                warn!(queue = %queue.name(), handlers = jobs.len(), "some handlers block their threads");
            }
            settler::release_leases(queue, leases, metrics, &context.stop).await;
        }
        stop_accepting.cancel();
        drop(shared);
        if let Err(error) = settling.await {
            error!(queue = %queue.name(), %error, "the settler panicked");
        }
    }
}

impl ExecutorState {
    /// Runs the handlers of messages in one slot, one after the other, until the slot is free.
    async fn run_jobs(self: Arc<Self>, mut slot: Slot, first: UnstartedMessage) {
        let mut next_message = Some(first);
        while let Some(message) = next_message {
            let run_time = self.run_job(message).await;
            next_message = slot.next_message(run_time);
        }
    }

    /// Runs the handler of one message, and passes its lease to the settler. Returns the run time of the handler.
    async fn run_job(&self, message: UnstartedMessage) -> Duration {
        let UnstartedMessage { job, ready_at, mut lease, .. } = message;
        job.record_start();
        self.metrics.record_start(job.message(), ready_at);
        let run_result = tokio::select! {
            run_result = run(Some(&*self.routes), &job) => run_result,
            () = self.drop_handlers.cancelled() => {
                self.dropped.lock().push(lease);
                return Duration::ZERO;
            }
        };
        let run_time = run_result.run_time.unwrap_or_default();
        if let Some(run_time) = run_result.run_time {
            self.metrics.runs.observe(run_time.as_secs_f64());
        }
        let finished = FinishedJob { run_time: run_result.run_time, job };
        if run_result.lease == LeaseState::Lost {
            self.metrics.record_end(LeaseOutcome::Lost);
            settler::log_lease_end(&finished, None, LeaseOutcome::Lost);
            return run_time;
        }
        let action = run_result.outcome.into_action(finished.job.redis_now());
        lease.mark_handler_ended();
        let settlement = PendingSettlement { lease, action, finished };
        if let Err(mpsc::error::SendError(PendingSettlement { finished, .. })) =
            self.settlement_sender.send(settlement).await
        {
            self.metrics.record_end(LeaseOutcome::Unsettled);
            settler::log_lease_end(&finished, None, LeaseOutcome::Unsettled);
        }
        run_time
    }
}
