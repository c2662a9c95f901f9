use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use queue_core::LeaseToken;
use tokio::sync::OwnedSemaphorePermit;

/// The leases that a line holds and that are to be extended.
#[derive(Clone, Default)]
pub(crate) struct Held {
    leases: Arc<Mutex<HashSet<LeaseToken>>>,
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashSet<LeaseToken>> {
        // Nothing that is done under this lock can panic half-way.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a lease, and its place among `concurrency`, until the guard is dropped.
    pub(crate) fn hold(&self, lease: LeaseToken, place: OwnedSemaphorePermit) -> HeldLease {
        self.lock().insert(lease.clone());
        HeldLease { held: self.clone(), lease, _place: place }
    }

    pub(crate) fn all(&self) -> Vec<LeaseToken> {
        self.lock().iter().cloned().collect()
    }

    /// Extends a lease no longer: it is over. Answers whether it was held.
    pub(crate) fn forget(&self, lease: &LeaseToken) -> bool {
        self.lock().remove(lease)
    }
}

/// One lease that is held.
pub(crate) struct HeldLease {
    held: Held,
    pub(crate) lease: LeaseToken,
    _place: OwnedSemaphorePermit,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.held.forget(&self.lease);
    }
}
