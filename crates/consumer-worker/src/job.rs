//! A job is one run of a handler on a message, as the handler sees it: the message, its trace, its lease, and the handle that
//! cancels the handler.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use queue_core::{
    Delivery, Error, Extended, GroupKey, LeaseToken, Message, MessageName, MessageRef, Millis, Queue, QueueName,
    Timestamp,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use service::{
    telemetry::{self, TraceContext},
    wording,
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{Span, info_span};

/// The time that is reserved for settling the lease of a run.
pub(crate) const TIME_TO_SETTLE: Duration = Duration::from_millis(200);

/// The time limit for the cleanup after the time-out of a run, in which the program of the run is stopped, or the cancelled
/// handler ends. The lease of the message lasts until the outcome is recorded; then another attempt may begin.
const CLEANUP_AFTER_TIMEOUT: Duration = Queue::RUN_TIMEOUT_GRACE.to_std().saturating_sub(TIME_TO_SETTLE);
const _: () = assert!(!CLEANUP_AFTER_TIMEOUT.is_zero(), "the lease ends before the outcome of a run is recorded");

/// One run of a handler on a message. A job is cheap to clone.
#[derive(Clone)]
pub struct Job {
    state: Arc<JobState>,
}

struct JobState {
    message: Message,
    timeout: Option<Millis>,
    lease_expires_at: Timestamp,
    /// The instant at which the message reached this worker.
    received: Instant,
    /// The instant at which the handler started.
    started: OnceLock<Instant>,
    cancel: CancelHandle,
    lease: JobLease,
    /// Tracks the parts of the run that continue after its handler was dropped, such as a program that is being stopped.
    cleanup: OnceLock<TaskTracker>,
}

enum JobLease {
    Real(Arc<Queue>, LeaseToken),
    /// The lease of a simulated job, for tests: stores the progress that the handler reports.
    Simulated(Mutex<Vec<Box<RawValue>>>),
}

impl Job {
    pub(crate) fn new(queue: Arc<Queue>, delivery: Delivery, cancel: CancelHandle) -> Self {
        let Delivery { message, lease, lease_expires_at, timeout, .. } = delivery;
        Self::with_lease(message, timeout, lease_expires_at, cancel, JobLease::Real(queue, lease))
    }

    pub(crate) fn simulated(message: Message, timeout: Option<Millis>, lease_expires_at: Timestamp) -> Self {
        let lease = JobLease::Simulated(Mutex::default());
        Self::with_lease(message, timeout, lease_expires_at, CancelHandle::default(), lease)
    }

    fn with_lease(
        message: Message,
        timeout: Option<Millis>,
        lease_expires_at: Timestamp,
        cancel: CancelHandle,
        lease: JobLease,
    ) -> Self {
        let (received, started, cleanup) = (Instant::now(), OnceLock::new(), OnceLock::new());
        Self {
            state: Arc::new(JobState { message, timeout, lease_expires_at, received, started, cancel, lease, cleanup }),
        }
    }

    /// Returns the message that the handler works on.
    pub fn message(&self) -> &Message {
        &self.state.message
    }

    /// Returns the id of the message: the own id that the producer chose, or the id that Drover made.
    pub fn id(&self) -> &MessageRef {
        &self.state.message.id
    }

    /// Returns the queue of the message.
    pub fn queue(&self) -> &QueueName {
        &self.state.message.queue
    }

    /// Returns the name of the message, which identifies its kind.
    pub fn name(&self) -> Option<&MessageName> {
        self.state.message.name.as_ref()
    }

    /// Returns the key of the message's group.
    pub fn group(&self) -> Option<&GroupKey> {
        self.state.message.group.as_ref()
    }

    /// Returns the value of a header that the producer sent beside the data.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.state.message.headers.get(name)
    }

    /// Returns the data of the signal that released the message: JSON of at most 4 KiB. Returns `None` if the message was not
    /// held, or if its signal had no data.
    pub fn signal(&self) -> Option<&RawValue> {
        self.state.message.signal.as_deref()
    }

    /// Returns the trace that the message belongs to, as a W3C `traceparent`, if its producer sent one.
    pub fn traceparent(&self) -> Option<&str> {
        self.header("traceparent")
    }

    /// Returns the number of this attempt. The first attempt has the number 1.
    pub fn attempt(&self) -> u32 {
        self.state.message.attempts_made + 1
    }

    /// Returns the time limit of this run, or `None` if the run has no limit. A run that reaches its limit is a failed attempt.
    pub fn timeout(&self) -> Option<Millis> {
        self.state.timeout
    }

    /// Returns the instant of the [time-out](Self::timeout), at which the worker drops the handler.
    pub fn deadline(&self) -> Option<Instant> {
        self.record_start().checked_add(self.state.timeout?.to_std())
    }

    /// Records that the handler starts now, unless an earlier start is recorded. Returns the instant at which the handler
    /// started.
    pub(crate) fn record_start(&self) -> Instant {
        *self.state.started.get_or_init(Instant::now)
    }

    /// Returns the end of the lease as it was when the message was leased, by Redis's clock. The worker extends the lease
    /// while the handler runs.
    pub fn lease_expires_at(&self) -> Timestamp {
        self.state.lease_expires_at
    }

    /// Returns a token that is cancelled when the handler must stop, because the message was cancelled or its lease is lost.
    /// The worker drops a handler that has not ended 0.5 s after the token was cancelled.
    pub fn stop(&self) -> &CancellationToken {
        &self.state.cancel.0.token
    }

    /// Reports the progress of the work to readers of the message: any JSON of up to 64 KiB. Returns whether the progress was
    /// stored; progress is not stored after the lease has ended.
    ///
    /// # Errors
    ///
    /// Returns [`Error::ProgressTooLarge`], [`Error::Unavailable`] or [`Error::OutOfMemory`]; the handler may continue after
    /// each of these errors.
    pub async fn report_progress(&self, progress: &impl Serialize) -> Result<bool, Error> {
        let json = to_raw_value(progress).map_err(|error| Error::Unexpected(wording::value_mistake(&error)))?;
        match &self.state.lease {
            JobLease::Real(queue, lease) => queue.report_progress(lease, &json).await,
            JobLease::Simulated(reports) => {
                reports.lock().push(json);
                Ok(true)
            }
        }
    }

    /// Extends the lease, so that the lease ends after `duration` from now, even if this process dies. A handler seldom needs
    /// `extend`, because the worker extends all its leases. The [time-out](Self::timeout) of the run does not change.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unavailable`] if it is unknown whether the lease was extended.
    pub async fn extend(&self, duration: Duration) -> Result<Extended, Error> {
        let millis = Millis::new(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        match &self.state.lease {
            JobLease::Real(queue, lease) => {
                let extend_outcomes = queue.extend(std::slice::from_ref(lease), Some(millis)).await?;
                let extend_outcomes = extend_outcomes.first().copied().unwrap_or(Extended::LeaseOver);
                if extend_outcomes != Extended::LeaseOver {
                    self.state.cancel.record_extended(Instant::now().checked_add(duration));
                }
                Ok(extend_outcomes)
            }
            JobLease::Simulated(_) => Ok(Extended::Until(self.redis_now() + millis)),
        }
    }

    /// Returns the worker's estimate of the time by Redis's clock. The estimated time is never later than Redis's
    /// clock.
    pub(crate) fn redis_now(&self) -> Timestamp {
        let elapsed = Millis::new(u64::try_from(self.state.received.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.state.message.started_at.unwrap_or(self.state.message.created_at) + elapsed
    }

    pub(crate) fn cancel_handle(&self) -> &CancelHandle {
        &self.state.cancel
    }

    /// Returns the instant by which a part of the run that is cancelled now must have ended: after `grace`, but at most
    /// [`CLEANUP_AFTER_TIMEOUT`] after the time-out of the run.
    pub(crate) fn cleanup_deadline(&self, grace: Duration) -> tokio::time::Instant {
        let end_of_grace = tokio::time::Instant::now() + grace;
        self.deadline().map_or(end_of_grace, |deadline| end_of_grace.min((deadline + CLEANUP_AFTER_TIMEOUT).into()))
    }

    /// Returns a token for a part of the run that continues for a limited time after the handler was dropped. A timed-out
    /// attempt is recorded only after all tokens were dropped, so that no other attempt runs at the same time.
    pub(crate) fn cleanup_token(&self) -> TaskTrackerToken {
        self.state.cleanup.get_or_init(TaskTracker::new).token()
    }

    /// Waits until all [cleanup tokens](Self::cleanup_token) were dropped.
    pub(crate) async fn cleanup_ended(&self) {
        if let Some(cleanup) = self.state.cleanup.get() {
            cleanup.close();
            cleanup.wait().await;
        }
    }

    /// Begins the span of the run. The span is a part of the trace that the message belongs to, and is linked to the span that
    /// posted the message.
    pub(crate) fn begin_span(&self) -> Span {
        // The id is a string field, which the log quotes, because an own id may contain spaces and quotes.
        let (queue, id, attempt) = (self.queue(), self.id().as_str(), self.attempt());
        if !telemetry::are_traces_exported() {
            return info_span!("job", %queue, id, attempt);
        }
        let span = info_span!(
            "job", otel.kind = "consumer", otel.name = format!("process {queue}"), messaging.system = "drover",
            messaging.operation.type = "process", messaging.destination.name = %queue, messaging.message.id = id,
            %queue, id, attempt,
        );
        if let Some(posted) = TraceContext::read(self.traceparent(), self.header(TraceContext::TRACESTATE)) {
            posted.become_linked_parent_of(&span);
        }
        span
    }

    /// Returns the trace context that a URL or a program gets, as request headers: the context of this run's span if the worker
    /// sends traces, otherwise the context of the message.
    pub(crate) fn trace_headers(&self) -> [(&'static str, Option<String>); 2] {
        let span_context =
            telemetry::are_traces_exported().then(|| TraceContext::from_span(&Span::current())).flatten();
        let (parent, state) = if let Some(context) = span_context {
            (Some(context.traceparent()), context.tracestate())
        } else {
            let header_of_message = |name| self.header(name).map(str::to_owned);
            (header_of_message(TraceContext::TRACEPARENT), header_of_message(TraceContext::TRACESTATE))
        };
        [(TraceContext::TRACEPARENT, parent), (TraceContext::TRACESTATE, state)]
    }

    /// Returns the progress that the handler of a simulated job reported.
    pub(crate) fn progress_reports(&self) -> Vec<Box<RawValue>> {
        match &self.state.lease {
            JobLease::Real(..) => Vec::new(),
            JobLease::Simulated(reports) => reports.lock().clone(),
        }
    }
}

/// The reason why a handler must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelReason {
    /// A client cancelled the message.
    Cancelled,
    /// The lease is over, because the lease lapsed or the queue was deleted. After a lapse, another consumer has or gets the
    /// message.
    LeaseLost,
}

/// Cancels one handler, and records whether the handler has ended and whether the handler extended its lease.
#[derive(Clone, Default)]
pub(crate) struct CancelHandle(Arc<RunState>);

#[derive(Default)]
struct RunState {
    token: CancellationToken,
    reason: OnceLock<CancelReason>,
    has_ended: AtomicBool,
    /// The end of the lease, if the handler extended it with [`Job::extend`].
    extended_until: Mutex<Option<Instant>>,
}

impl CancelHandle {
    /// Cancels the handler. Later calls of `cancel` do not change the reason.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        let _ = self.0.reason.set(reason);
        self.0.token.cancel();
    }

    /// Waits until the handler is cancelled, and returns the reason.
    pub(crate) async fn cancelled(&self) -> CancelReason {
        self.0.token.cancelled().await;
        self.0.reason.get().copied().unwrap_or(CancelReason::Cancelled)
    }

    /// Records that the handler has ended, and that its lease will be settled.
    pub(crate) fn record_ended(&self) {
        self.0.has_ended.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.has_ended.load(Ordering::Relaxed)
    }

    fn record_extended(&self, until: Option<Instant>) {
        *self.0.extended_until.lock() = until;
    }

    /// Returns whether the handler extended its lease to an end later than `instant`.
    pub(crate) fn is_extended_beyond(&self, instant: Instant) -> bool {
        self.0.extended_until.lock().is_some_and(|until| until > instant)
    }
}
