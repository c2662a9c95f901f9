//! The settler of one queue: it settles leases in batches, and logs how each lease ended.

use std::{slice, sync::Arc, time::Duration};

use queue_core::{Action, Error, LeaseToken, Queue, Retry, Settlement};
use service::{Outage, Stop, telemetry::rounded_millis};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    lease_set::LeaseGuard,
    metrics::{LeaseOutcome, QueueMetrics, WorkerMetrics},
};
use crate::job::Job;

/// A lease whose handler has ended, and the action that will settle it.
pub(crate) struct PendingSettlement {
    pub(crate) lease: LeaseGuard,
    pub(crate) action: Action,
    pub(crate) finished: FinishedJob,
}

/// A job whose handler has ended, and the handler's run time, for the log record.
pub(crate) struct FinishedJob {
    pub(crate) job: Job,
    /// The run time of the handler; `None` if no handler ran.
    pub(crate) run_time: Option<Duration>,
}

/// Settles the leases of one queue.
pub(crate) struct Settler {
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<QueueMetrics>,
    /// The token that is cancelled when the settler must accept no more leases.
    pub(crate) stop_accepting: CancellationToken,
    pub(crate) stop: Stop,
}

/// The time for which the settler retries the last batch during an outage of Redis after it stopped accepting leases.
const TIME_FOR_FINAL_RETRIES: Duration = Duration::from_secs(5);
/// The time for which the settler retries the last batch when the worker stops at once.
const TIME_FOR_FINAL_RETRIES_IN_STOP_AT_ONCE: Duration = Duration::from_millis(200);

impl Settler {
    /// Settles leases in batches: leases that arrive during a call are settled by the next call.
    ///
    /// Settling is idempotent, so a failed call is repeated until Redis answers. Leases keep their capacity until they are
    /// settled, so the number of unsettled leases is bounded. The future of `run` completes when all senders were dropped, or
    /// when no more leases are accepted; leases that can't be settled within a short time after that will lapse.
    pub(crate) async fn run(self, mut pending: mpsc::Receiver<PendingSettlement>) {
        let mut batch = Vec::new();
        let mut closed_since = None;
        let missing_right = Outage::reported_once();
        loop {
            let count = tokio::select! {
                biased;
                count = pending.recv_many(&mut batch, Queue::MAX_MESSAGES) => count,
                () = self.stop_accepting.cancelled(), if !pending.is_closed() => {
                    pending.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            // `leases` keeps the lease guards until the batch is settled. A lease whose guard exists counts towards the
            // limits of the worker.
            let (mut leases, mut finished_jobs, mut settlements) =
                (Vec::with_capacity(count), Vec::with_capacity(count), Vec::with_capacity(count));
            for PendingSettlement { lease, action, finished } in batch.drain(..) {
                settlements.push(Settlement { lease: lease.token.clone(), action });
                leases.push(lease);
                finished_jobs.push(finished);
            }
            let mut retry = Retry::new();
            while let Err(error) = self.settle(&settlements, &finished_jobs).await {
                let is_last_batch = pending.is_closed() || self.stop_accepting.is_cancelled();
                if is_last_batch
                    && closed_since.get_or_insert_with(Instant::now).elapsed() > time_for_final_retries(&self.stop)
                {
                    error!(queue = %self.queue.name(), %error, leases = leases.len(), "can't settle: these leases will lapse");
                    for finished in &finished_jobs {
                        self.record_end(finished, None, LeaseOutcome::Unsettled);
                    }
                    return;
                }
                // The settler logs a missing right of the Redis user, because the calls of runners may need other rights.
                // The settler does not log an outage of Redis, because the queue runners log the outage.
                if matches!(error, Error::NotPermitted(_)) && missing_right.record_failure() {
                    error!(queue = %self.queue.name(), %error, "can't settle, trying again");
                }
                sleep(retry.pause()).await;
            }
            missing_right.record_success();
            LeaseGuard::drop_all(leases);
        }
    }

    /// Settles a batch of leases. Returns an error only if repeating the call may help.
    async fn settle(&self, settlements: &[Settlement], finished_jobs: &[FinishedJob]) -> Result<(), Error> {
        match self.queue.settle(settlements).await {
            Ok(settled) => {
                for ((settlement, finished), settled) in settlements.iter().zip(finished_jobs).zip(settled) {
                    self.record_end(
                        finished,
                        Some(&settlement.action),
                        LeaseOutcome::from_action(&settlement.action, settled),
                    );
                }
                Ok(())
            }
            Err(error) if error.is_unavailable() => Err(error),
            // One settlement of the batch is invalid, so each settlement is sent alone, and the valid settlements succeed.
            Err(_) if settlements.len() > 1 => {
                for (settlement, finished) in settlements.iter().zip(finished_jobs) {
                    Box::pin(self.settle(slice::from_ref(settlement), slice::from_ref(finished))).await?;
                }
                Ok(())
            }
            Err(error) => {
                error!(queue = %self.queue.name(), %error, "can't settle: the lease will lapse");
                for finished in finished_jobs {
                    self.record_end(finished, None, LeaseOutcome::Unsettled);
                }
                Ok(())
            }
        }
    }

    fn record_end(&self, finished: &FinishedJob, action: Option<&Action>, outcome: LeaseOutcome) {
        self.metrics.record_end(outcome);
        log_lease_end(finished, action, outcome);
    }
}

/// Releases leases whose handlers were dropped. The messages with the highest ids are released first, because each call puts
/// its messages at the head of the waiting list.
pub(crate) async fn release_leases(queue: &Queue, mut leases: Vec<LeaseToken>, metrics: &QueueMetrics, stop: &Stop) {
    leases.sort_unstable_by(|one, other| one.id().cmp(other.id()));
    let release = |lease| Settlement { lease, action: Action::Release(None) };
    let settlements: Vec<Settlement> = leases.into_iter().map(release).collect();
    let begin_time = Instant::now();
    let mut retry = Retry::new();
    for chunk in settlements.rchunks(Queue::MAX_MESSAGES) {
        let settle_outcomes = loop {
            match queue.settle(chunk).await {
                Err(error) if error.is_unavailable() && begin_time.elapsed() < time_for_final_retries(stop) => {
                    sleep(retry.pause()).await;
                }
                settle_outcomes => break settle_outcomes,
            }
        };
        if let Err(error) = &settle_outcomes {
            warn!(queue = %queue.name(), %error, leases = chunk.len(), "can't release: these leases will lapse");
        }
        for (index, settlement) in chunk.iter().enumerate() {
            let settle_outcome = settle_outcomes.as_ref().ok().and_then(|outcomes| outcomes.get(index));
            let outcome = settle_outcome
                .map_or(LeaseOutcome::Unsettled, |new_state| LeaseOutcome::from_action(&settlement.action, *new_state));
            metrics.record_end(outcome);
            info!(queue = %queue.name(), id = %settlement.lease.id(), outcome = outcome.into_str(), "handler dropped at shutdown");
        }
    }
}

/// Returns leased messages to their queue if their handlers have not started. A failed call to Redis is repeated until
/// Redis answers; when the worker stops, the call is repeated only for a short time.
pub(crate) async fn undo_leases(queue: &Queue, leases: &[LeaseToken], stop: &Stop) {
    let mut retry = Retry::new();
    let mut stopped_since = None;
    loop {
        match queue.undo_leases(leases).await {
            Ok(returned) => {
                return debug!(queue = %queue.name(), returned, "returned messages that could not start soon");
            }
            Err(error)
                if error.is_unavailable()
                    && (!stop.gracefully.is_cancelled()
                        || stopped_since.get_or_insert_with(Instant::now).elapsed() < time_for_final_retries(stop)) =>
            {
                sleep(retry.pause()).await;
            }
            Err(error) => {
                return warn!(queue = %queue.name(), %error, leases = leases.len(), "can't return messages: these leases will lapse");
            }
        }
    }
}

fn time_for_final_retries(stop: &Stop) -> Duration {
    if stop.at_once.is_cancelled() { TIME_FOR_FINAL_RETRIES_IN_STOP_AT_ONCE } else { TIME_FOR_FINAL_RETRIES }
}

/// Logs how a lease ended.
pub(crate) fn log_lease_end(finished: &FinishedJob, action: Option<&Action>, outcome: LeaseOutcome) {
    let FinishedJob { job, run_time } = finished;
    // `line` is a macro, so that the fields of a filtered record are not computed.
    macro_rules! line {
        ($level:ident, $text:literal) => {
            tracing::$level!(
                queue = %job.queue(),
                id = job.id().as_str(),
                name = job.name().map(|name| name.as_str()),
                attempt = job.attempt(),
                outcome = outcome.into_str(),
                duration_ms = run_time.map(rounded_millis),
                code = action.and_then(failure_code),
                $text
            )
        };
    }
    match outcome {
        LeaseOutcome::Completed => line!(info, "completed"),
        LeaseOutcome::Retried => line!(info, "failed, will be tried again"),
        LeaseOutcome::Released => line!(info, "released"),
        LeaseOutcome::Failed => line!(warn, "failed for good"),
        LeaseOutcome::Lost => {
            line!(warn, "the lease was over before it was settled: another consumer may have the message");
        }
        LeaseOutcome::Unsettled => line!(warn, "its end could not be recorded: the lease will lapse"),
    }
}

fn failure_code(action: &Action) -> Option<&str> {
    match action {
        Action::Fail(failure) | Action::FailAndRetryAfter(failure, _) | Action::FailForGood(failure) => {
            Some(&failure.code)
        }
        Action::Complete(_) | Action::Release(_) | Action::Hold(_) => None,
    }
}

/// Logs the number of leases with each outcome when a worker stops.
pub(crate) fn log_totals(metrics: &WorkerMetrics, uptime: Duration) {
    use LeaseOutcome::{Completed, Failed, Lost, Released, Retried, Unsettled};
    let [completed, retried, failed, released, lost, unsettled] =
        [Completed, Retried, Failed, Released, Lost, Unsettled].map(|outcome| metrics.total_of_outcome(outcome));
    let uptime_s = uptime.as_secs();
    info!(uptime_s, completed, retried, failed, released, lost, unsettled, "totals of this worker");
}
