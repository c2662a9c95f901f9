//! The executor of one queue's runner: it runs the handlers of leased messages on their own runtime, and passes the leases that
//! are to be settled to the settler.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use queue_core::{Delivery, Queue};
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{
    context::WorkerContext,
    heartbeat::TrackedLeases,
    lease_set::LeaseGuard,
    metrics::{LeaseOutcome, QueueMetrics},
    run::{LeaseState, run},
    settler::{self, PendingSettlement, Settler, Work},
};
use crate::{job::Job, routing::QueueRoutes};

/// The time that handlers have to notice that they are dropped. A handler that blocks its thread does not notice.
const TIME_TO_DROP: Duration = Duration::from_millis(200);

/// Runs the handlers of one queue.
pub(crate) struct Executor {
    shared: Arc<Shared>,
    jobs: TaskTracker,
    settling: JoinHandle<()>,
    /// Cancelled when the settler is to accept no more leases.
    no_more: CancellationToken,
}

/// The state that the handlers of one queue share.
struct Shared {
    /// Over connections of the handlers: their calls can't disturb the worker's own.
    queue: Arc<Queue>,
    routes: Arc<QueueRoutes>,
    metrics: Arc<QueueMetrics>,
    pending: mpsc::Sender<PendingSettlement>,
    /// Cancelled when handlers that still run are to be dropped.
    out_of_time: CancellationToken,
    /// The leases of dropped handlers, which are kept until all of them are released together, so that they keep their order.
    dropped: Mutex<Vec<LeaseGuard>>,
}

impl Executor {
    /// Starts the settler.
    pub(crate) fn start(
        context: &WorkerContext,
        queue: &Arc<Queue>,
        routes: &Arc<QueueRoutes>,
        metrics: &Arc<QueueMetrics>,
    ) -> Self {
        // There is room for all leases: sending one never waits.
        let (pending, to_settle) = mpsc::channel(context.config.max_leases);
        let no_more = CancellationToken::new();
        let settler = Settler {
            queue: Arc::clone(queue),
            metrics: Arc::clone(metrics),
            no_more: no_more.clone(),
            stop: context.stop.clone(),
        };
        let shared = Shared {
            queue: context.queues_of_handlers.queue(queue.name()),
            routes: Arc::clone(routes),
            metrics: Arc::clone(metrics),
            pending,
            out_of_time: CancellationToken::new(),
            dropped: Mutex::default(),
        };
        let settling = tokio::spawn(settler.run(to_settle));
        Self { shared: Arc::new(shared), jobs: TaskTracker::new(), settling, no_more }
    }

    /// Runs the handlers of leased messages on their runtime, to which one task brings them all.
    pub(crate) fn run(&self, leased: Vec<(Delivery, LeaseGuard)>, handlers: &Handle) {
        let mut to_do: Vec<(Job, LeaseGuard)> = leased
            .into_iter()
            .map(|(delivery, lease)| {
                self.shared.metrics.note_start(&delivery);
                (Job::new(Arc::clone(&self.shared.queue), delivery, lease.cancel.clone()), lease)
            })
            .collect();
        if to_do.len() > 1 {
            let (jobs, shared) = (self.jobs.clone(), Arc::clone(&self.shared));
            let all = async move {
                for (job, lease) in to_do {
                    drop(jobs.spawn(Arc::clone(&shared).work(job, lease)));
                }
            };
            drop(self.jobs.spawn_on(all, handlers));
        } else if let Some((job, lease)) = to_do.pop() {
            drop(self.jobs.spawn_on(Arc::clone(&self.shared).work(job, lease), handlers));
        }
    }

    /// Waits for the handlers within the grace, then drops those that still run and releases their messages.
    pub(crate) async fn close(self, context: &WorkerContext, tracked: &TrackedLeases, metrics: &QueueMetrics) {
        let Self { shared, jobs, settling, no_more } = self;
        let queue = &tracked.queue;
        jobs.close();
        let is_graceful = tokio::select! {
            ended = timeout(context.config.shutdown_grace.to_std(), jobs.wait()) => ended.is_ok(),
            () = context.stop.at_once.cancelled() => false,
        };
        if !is_graceful {
            shared.out_of_time.cancel();
            let blocked = timeout(TIME_TO_DROP, jobs.wait()).await.is_err();
            let leases = tracked.leases.running();
            info!(queue = %queue.name(), messages = leases.len(), "the grace is over: unfinished messages are released");
            if blocked {
                warn!(queue = %queue.name(), handlers = jobs.len(), "some handlers block their threads");
            }
            settler::release(queue, leases, metrics, &context.stop).await;
        }
        no_more.cancel();
        drop(shared);
        if let Err(error) = settling.await {
            error!(queue = %queue.name(), %error, "the settler broke");
        }
    }
}

impl Shared {
    /// Works on one message, and passes its lease to the settler.
    async fn work(self: Arc<Self>, job: Job, mut lease: LeaseGuard) {
        let ran = tokio::select! {
            ran = run(Some(&*self.routes), &job) => ran,
            () = self.out_of_time.cancelled() => {
                self.dropped.lock().push(lease);
                return;
            }
        };
        if let Some(took) = ran.took {
            self.metrics.runs.observe(took.as_secs_f64());
        }
        let work = Work { took: ran.took, job };
        if ran.lease == LeaseState::Lost {
            self.metrics.note_end(LeaseOutcome::Lost);
            settler::log_end(&work, None, LeaseOutcome::Lost);
            return;
        }
        let action = ran.outcome.into_action(work.job.now());
        lease.end_handler();
        let settlement = PendingSettlement { lease, action, work };
        if let Err(mpsc::error::SendError(PendingSettlement { work, .. })) = self.pending.send(settlement).await {
            self.metrics.note_end(LeaseOutcome::Unsettled);
            settler::log_end(&work, None, LeaseOutcome::Unsettled);
        }
    }
}
