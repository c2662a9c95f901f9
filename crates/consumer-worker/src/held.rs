use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use queue_core::{LeaseToken, MessageId};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Why a handler is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody cancelled the message.
    Cancelled,
    /// The lease lapsed: the message is, or will be, somebody else's.
    LeaseLost,
}

/// Tells one handler to stop, and why.
#[derive(Clone, Default)]
pub(crate) struct Stopper {
    pub(crate) token: CancellationToken,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    reason: OnceLock<Stop>,
    /// Until when its handler had the lease extended by itself.
    lasts_until: OnceLock<Mutex<Option<Instant>>>,
}

impl Stopper {
    fn stop(&self, reason: Stop) {
        // The first reason stays.
        let _ = self.told.reason.set(reason);
        self.token.cancel();
    }

    /// Its handler has had the lease extended until then.
    pub(crate) fn lasts_until(&self, instant: Option<Instant>) {
        let lasts_until = self.told.lasts_until.get_or_init(Mutex::default);
        *lasts_until.lock().unwrap_or_else(PoisonError::into_inner) = instant;
    }

    /// Whether its lease lasts longer than until then, because its handler had it extended.
    fn lasts_beyond(&self, instant: Instant) -> bool {
        let lasts_until = self.told.lasts_until.get().map(|told| *told.lock().unwrap_or_else(PoisonError::into_inner));
        lasts_until.flatten().is_some_and(|until| until > instant)
    }

    /// Waits until it is told.
    pub(crate) async fn told(&self) -> Stop {
        self.token.cancelled().await;
        self.told.reason.get().copied().unwrap_or(Stop::Cancelled)
    }
}

/// The leases that a line holds and that are to be extended.
#[derive(Clone, Default)]
pub(crate) struct Held {
    leases: Arc<Mutex<HashMap<LeaseToken, Stopper>>>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseToken, Stopper>> {
        // Nothing that is done under this lock can panic half-way.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a lease, and its place among `concurrency`, until the guard is dropped.
    pub(crate) fn hold(&self, lease: LeaseToken, place: OwnedSemaphorePermit) -> HeldLease {
        let stopper = Stopper::default();
        self.lock().insert(lease.clone(), stopper.clone());
        HeldLease { held: self.clone(), lease, stopper, _place: place }
    }

    pub(crate) fn all(&self) -> Vec<LeaseToken> {
        self.lock().keys().cloned().collect()
    }

    /// Extends a lease no longer: it is lost, and its handler is to stop. Answers whether it was held.
    pub(crate) fn lose(&self, lease: &LeaseToken) -> bool {
        let lost = self.lock().remove(lease);
        if let Some(stopper) = &lost {
            stopper.stop(Stop::LeaseLost);
        }
        lost.is_some()
    }

    /// Tells the handlers of messages to stop that were cancelled.
    pub(crate) fn cancel(&self, is_cancelled: impl Fn(&MessageId) -> bool) {
        for (lease, stopper) in self.lock().iter().filter(|(lease, _)| is_cancelled(lease.id())) {
            tracing::debug!(id = %lease.id(), "cancelled");
            stopper.stop(Stop::Cancelled);
        }
    }
}

/// One lease that is held.
pub(crate) struct HeldLease {
    held: Held,
    pub(crate) lease: LeaseToken,
    pub(crate) stopper: Stopper,
    _place: OwnedSemaphorePermit,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.held.lock().remove(&self.lease);
    }
}
