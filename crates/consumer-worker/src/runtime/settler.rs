//! The settler of one queue: it settles leases in batches, and logs how each of them ended.

use std::{slice, sync::Arc, time::Duration};

use queue_core::{Action, Error, LeaseToken, Queue, Retry, Settlement};
use service::Stop;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    lease_set::LeaseGuard,
    metrics::{Ended, QueueMetrics, WorkerMetrics},
};
use crate::job::Job;

/// A lease that is to be settled.
pub(crate) struct Ending {
    pub(crate) lease: LeaseGuard,
    pub(crate) action: Action,
    pub(crate) work: Work,
}

/// The work on a message, for the line of the log.
pub(crate) struct Work {
    pub(crate) job: Job,
    /// The time that the handler ran, if it did.
    pub(crate) took: Option<Duration>,
}

/// Settles the leases of one queue.
pub(crate) struct Settler {
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<QueueMetrics>,
    /// Cancelled when no more leases are accepted.
    pub(crate) no_more: CancellationToken,
    pub(crate) stop: Stop,
}

/// The time in which the last leases are tried to be settled when no more are accepted and Redis does not answer.
const LAST_TRIES: Duration = Duration::from_secs(5);
/// The same when the worker is to stop at once.
const LAST_TRIES_AT_ONCE: Duration = Duration::from_millis(200);

impl Settler {
    /// Settles leases in batches: those that come in while a call is under way are in the next one.
    ///
    /// A settle is safe to repeat, so it is repeated until Redis answers; the leases keep their capacity meanwhile, so their
    /// number is bounded. Ends when all senders are dropped, or no more leases are accepted; leases that Redis does not settle
    /// soon after that lapse.
    pub(crate) async fn run(self, mut endings: mpsc::Receiver<Ending>) {
        let mut batch = Vec::new();
        let mut closed_since = None;
        loop {
            let count = tokio::select! {
                biased;
                count = endings.recv_many(&mut batch, Queue::MAX_MESSAGES) => count,
                () = self.no_more.cancelled(), if !endings.is_closed() => {
                    endings.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            // The leases keep their capacity until they are settled.
            let (mut leases, mut works, mut settlements) =
                (Vec::with_capacity(count), Vec::with_capacity(count), Vec::with_capacity(count));
            for Ending { lease, action, work } in batch.drain(..) {
                settlements.push(Settlement { lease: lease.token.clone(), action });
                leases.push(lease);
                works.push(work);
            }
            let mut retry = Retry::new();
            while let Err(error) = self.settle(&settlements, &works).await {
                let is_over = endings.is_closed() || self.no_more.is_cancelled();
                if is_over && closed_since.get_or_insert_with(Instant::now).elapsed() > last_tries(&self.stop) {
                    error!(queue = %self.queue.name(), %error, leases = leases.len(), "can't settle: these leases will lapse");
                    for work in &works {
                        self.note(work, None, Ended::Unsettled);
                    }
                    return;
                }
                sleep(retry.pause()).await;
            }
            LeaseGuard::drop_all(leases);
        }
    }

    /// Settles a batch. Fails only where another try may help.
    async fn settle(&self, settlements: &[Settlement], works: &[Work]) -> Result<(), Error> {
        match self.queue.settle(settlements).await {
            Ok(settled) => {
                for ((settlement, work), settled) in settlements.iter().zip(works).zip(settled) {
                    self.note(work, Some(&settlement.action), Ended::of(&settlement.action, settled));
                }
                Ok(())
            }
            Err(error @ Error::Unavailable(_)) => Err(error),
            // One of them can't be settled, but the others can.
            Err(_) if settlements.len() > 1 => {
                for (settlement, work) in settlements.iter().zip(works) {
                    Box::pin(self.settle(slice::from_ref(settlement), slice::from_ref(work))).await?;
                }
                Ok(())
            }
            Err(error) => {
                error!(queue = %self.queue.name(), %error, "can't settle: the lease will lapse");
                for work in works {
                    self.note(work, None, Ended::Unsettled);
                }
                Ok(())
            }
        }
    }

    fn note(&self, work: &Work, action: Option<&Action>, ended: Ended) {
        self.metrics.note_end(ended);
        log_end(work, action, ended);
    }
}

/// Releases leases whose handlers were dropped. The messages keep their order: each call puts them at the head of the waiting list.
pub(crate) async fn release(queue: &Queue, mut leases: Vec<LeaseToken>, metrics: &QueueMetrics, stop: &Stop) {
    leases.sort_unstable_by(|one, other| one.id().cmp(other.id()));
    let release = |lease| Settlement { lease, action: Action::Release(None) };
    let settlements: Vec<Settlement> = leases.into_iter().map(release).collect();
    let begun = Instant::now();
    let mut retry = Retry::new();
    for some in settlements.rchunks(Queue::MAX_MESSAGES) {
        let settled = loop {
            match queue.settle(some).await {
                Err(Error::Unavailable(_)) if begun.elapsed() < last_tries(stop) => sleep(retry.pause()).await,
                settled => break settled,
            }
        };
        if let Err(error) = &settled {
            warn!(queue = %queue.name(), %error, leases = some.len(), "can't release: these leases will lapse");
        }
        for (n, settlement) in some.iter().enumerate() {
            let settled = settled.as_ref().ok().and_then(|settled| settled.get(n));
            let ended = settled.map_or(Ended::Unsettled, |settled| Ended::of(&settlement.action, *settled));
            metrics.note_end(ended);
            info!(queue = %queue.name(), id = %settlement.lease.id(), outcome = ended.into_str(), "cut off");
        }
    }
}

fn last_tries(stop: &Stop) -> Duration {
    if stop.at_once.is_cancelled() { LAST_TRIES_AT_ONCE } else { LAST_TRIES }
}

/// Logs the end of a lease.
pub(crate) fn log_end(work: &Work, action: Option<&Action>, ended: Ended) {
    let Work { job, took } = work;
    // The fields of a line that the filter drops are not computed.
    macro_rules! line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                queue = %job.queue(),
                id = job.id().as_str(),
                name = job.name().map(|name| name.as_str()),
                attempt = job.attempt(),
                outcome = ended.into_str(),
                duration_ms = took.map(|took| took.as_secs_f64() * 1e3),
                code = action.and_then(code_of),
                $text
            )
        };
    }
    match ended {
        Ended::Completed => line!(info, "completed"),
        Ended::Retried => line!(info, "failed, will be tried again"),
        Ended::Released => line!(info, "released"),
        Ended::Failed => line!(warn, "failed for good"),
        Ended::Lost => line!(warn, "the lease was over before it was settled: another consumer has the message"),
        Ended::Unsettled => line!(warn, "its end could not be recorded: the lease will lapse"),
    }
}

fn code_of(action: &Action) -> Option<&str> {
    match action {
        Action::Fail(failure) | Action::FailAndRetryAfter(failure, _) | Action::FailForGood(failure) => {
            Some(&failure.code)
        }
        Action::Complete(_) | Action::Release(_) => None,
    }
}

/// Logs, when a worker stops, the number of leases that ended in each way.
pub(crate) fn log_totals(metrics: &WorkerMetrics, uptime: Duration) {
    use Ended::{Completed, Failed, Lost, Released, Retried, Unsettled};
    let [completed, retried, failed, released, lost, unsettled] =
        [Completed, Retried, Failed, Released, Lost, Unsettled].map(|ended| metrics.total(ended));
    let uptime_s = uptime.as_secs();
    info!(uptime_s, completed, retried, failed, released, lost, unsettled, "totals of this worker");
}
