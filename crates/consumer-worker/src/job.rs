//! One message at work, as its handler has it.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use queue_core::{
    Delivery, Error, Extended, Headers, LeaseToken, Message, MessageName, MessageRef, Millis, Queue, QueueName,
    Timestamp,
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use service::wording;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::held::Stopper;

/// One message at work: what its handler may know and say. Cheap to clone.
#[derive(Clone)]
pub struct Job {
    inner: Arc<Inner>,
}

struct Inner {
    message: Message,
    timeout: Option<Millis>,
    lease_expires_at: Timestamp,
    since: Instant,
    stopper: Stopper,
    lease: Lease,
    /// What goes on of the run when its handler was dropped.
    rest: OnceLock<TaskTracker>,
}

enum Lease {
    /// The right to work on it.
    Real(Arc<Queue>, LeaseToken),
    /// A test's: what was reported is kept here.
    Pretended(Mutex<Vec<Box<RawValue>>>),
}

impl Job {
    pub(crate) fn new(queue: Arc<Queue>, delivery: Delivery, stopper: Stopper) -> Self {
        let Delivery { message, lease, lease_expires_at, timeout, .. } = delivery;
        Self::with_lease(message, timeout, lease_expires_at, stopper, Lease::Real(queue, lease))
    }

    pub(crate) fn pretended(message: Message, timeout: Option<Millis>, lease_expires_at: Timestamp) -> Self {
        let lease = Lease::Pretended(Mutex::default());
        Self::with_lease(message, timeout, lease_expires_at, Stopper::default(), lease)
    }

    fn with_lease(
        message: Message,
        timeout: Option<Millis>,
        lease_expires_at: Timestamp,
        stopper: Stopper,
        lease: Lease,
    ) -> Self {
        let (since, rest) = (Instant::now(), OnceLock::new());
        Self { inner: Arc::new(Inner { message, timeout, lease_expires_at, since, stopper, lease, rest }) }
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.inner.message
    }

    /// The id of the message: the producer's own, or Drover's where there is none.
    pub fn id(&self) -> &MessageRef {
        &self.inner.message.id
    }

    /// The queue that it is in.
    pub fn queue(&self) -> &QueueName {
        &self.inner.message.queue
    }

    /// The kind of the message.
    pub fn name(&self) -> Option<&MessageName> {
        self.inner.message.name.as_ref()
    }

    /// What the producer sent beside the data.
    pub fn headers(&self) -> &Headers {
        &self.inner.message.headers
    }

    /// The data of the signal that released the message: JSON of at most 4 KiB.
    /// None if the message was not held, or its signal had no data.
    pub fn signal(&self) -> Option<&RawValue> {
        self.inner.message.signal.as_deref()
    }

    /// The trace that the message belongs to, as the W3C's `traceparent` says it, if its producer sent one.
    pub fn traceparent(&self) -> Option<&str> {
        self.headers().get("traceparent")
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.message.attempts_made + 1
    }

    /// How long this run may take before it counts as a failed attempt.
    pub fn timeout(&self) -> Option<Millis> {
        self.inner.timeout
    }

    /// When that time is over: the handler is dropped then.
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.since.checked_add(self.inner.timeout?.to_std())
    }

    /// Until when the lease lasted when the message was handed out; the worker extends it while the handler runs.
    pub fn lease_expires_at(&self) -> Timestamp {
        self.inner.lease_expires_at
    }

    /// Cancelled when the handler should stop: the message was cancelled, or its lease is lost. The handler has half a
    /// second to end by itself, then it is dropped.
    pub fn stop(&self) -> &CancellationToken {
        &self.inner.stopper.token
    }

    /// Tells readers of the message how far it is: any JSON up to 64 KiB. Answers whether it was kept: it is not when the lease
    /// is over.
    ///
    /// # Errors
    ///
    /// [`Error::ProgressTooLarge`], [`Error::Unavailable`], [`Error::OutOfMemory`]; the work may go on all the same.
    pub async fn report_progress(&self, progress: &impl Serialize) -> Result<bool, Error> {
        let json = to_raw_value(progress).map_err(|error| Error::Unexpected(wording::of_value(&error)))?;
        match &self.inner.lease {
            Lease::Real(queue, lease) => queue.report_progress(lease, &json).await,
            Lease::Pretended(reports) => {
                reports.lock().push(json);
                Ok(true)
            }
        }
    }

    /// Lets the lease last for so long from now, whatever becomes of this process meanwhile. Seldom needed: the worker
    /// extends all its leases. It does not let the run take longer than its [timeout](Self::timeout).
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: it may have been extended or not.
    pub async fn extend(&self, duration: Duration) -> Result<Extended, Error> {
        let millis = Millis::new(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        match &self.inner.lease {
            Lease::Real(queue, lease) => {
                let extended = queue.extend(std::slice::from_ref(lease), Some(millis)).await?;
                let extended = extended.first().copied().unwrap_or(Extended::LeaseOver);
                if extended != Extended::LeaseOver {
                    self.inner.stopper.lasts_until(Instant::now().checked_add(duration));
                }
                Ok(extended)
            }
            Lease::Pretended(_) => Ok(Extended::Until(self.now() + millis)),
        }
    }

    /// The time by Redis's clock, as far as the worker can tell: never ahead of it.
    pub(crate) fn now(&self) -> Timestamp {
        let elapsed = Millis::new(u64::try_from(self.inner.since.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.inner.message.started_at.unwrap_or(self.inner.message.created_at) + elapsed
    }

    pub(crate) fn stopper(&self) -> &Stopper {
        &self.inner.stopper
    }

    /// To be kept by what goes on for a bounded time when the handler was dropped: an attempt whose time is over is not
    /// recorded before that has ended, so that no other begins beside it.
    pub(crate) fn goes_on(&self) -> TaskTrackerToken {
        self.inner.rest.get_or_init(TaskTracker::new).token()
    }

    /// Waits until nothing of the run goes on.
    pub(crate) async fn has_ended(&self) {
        if let Some(rest) = self.inner.rest.get() {
            rest.close();
            rest.wait().await;
        }
    }

    /// What was reported, of a job of a test.
    pub(crate) fn reports(&self) -> Vec<Box<RawValue>> {
        match &self.inner.lease {
            Lease::Real(..) => Vec::new(),
            Lease::Pretended(reports) => reports.lock().clone(),
        }
    }
}
