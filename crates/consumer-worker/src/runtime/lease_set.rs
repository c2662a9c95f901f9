//! The leases that one runner holds. It stops the handlers of cancelled messages and of lost leases.

use std::{
    collections::HashMap,
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use queue_core::{Delivery, LeaseToken};
use tokio::sync::Notify;
use tracing::debug;

use super::{
    capacity::Capacity,
    metrics::{QueueMetrics, gauge_value},
};
use crate::job::{CancelHandle, CancelReason};

/// A lease that is to be extended.
struct LeaseEntry {
    cancel: CancelHandle,
    /// The time to which it is extended: the one with which it was handed out, whatever the queue's setting is by now.
    visibility_timeout: Duration,
}

/// The leases that one runner holds.
pub(crate) struct LeaseSet {
    /// The leases that are to be extended.
    leases: Mutex<HashMap<LeaseToken, LeaseEntry>>,
    /// The number of leases. Lost ones count until their handlers have ended.
    count: AtomicUsize,
    /// The number of those whose handlers have not ended, started or not.
    running: AtomicUsize,
    handler_ended: Notify,
    capacity: Arc<Capacity>,
    metrics: Arc<QueueMetrics>,
}

impl LeaseSet {
    pub(crate) fn new(capacity: Arc<Capacity>, metrics: Arc<QueueMetrics>) -> Arc<Self> {
        Arc::new(Self {
            leases: Mutex::default(),
            count: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            handler_ended: Notify::new(),
            capacity,
            metrics,
        })
    }

    /// Adds the leases of these deliveries, which last for `visibility_timeout`, until their guards are dropped.
    pub(crate) fn add(
        self: &Arc<Self>,
        deliveries: Vec<Delivery>,
        visibility_timeout: Duration,
    ) -> Vec<(Delivery, LeaseGuard)> {
        self.count.fetch_add(deliveries.len(), Ordering::Relaxed);
        self.running.fetch_add(deliveries.len(), Ordering::Relaxed);
        self.metrics.leases.inc_by(gauge_value(deliveries.len()));
        let mut leases = self.leases.lock();
        let add = |delivery: Delivery| {
            let (token, bytes) = (delivery.lease.clone(), bytes_of(&delivery));
            let cancel = CancelHandle::default();
            leases.insert(token.clone(), LeaseEntry { cancel: cancel.clone(), visibility_timeout });
            (delivery, LeaseGuard { set: Some(Arc::clone(self)), token, cancel, bytes, handler: Handler::Runs })
        };
        deliveries.into_iter().map(add).collect()
    }

    /// The number of leases.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until there are fewer leases than `max` whose handlers have not ended, and returns the difference. Only one task may
    /// wait here or in [`ended`](Self::ended).
    pub(crate) async fn room(&self, max: usize) -> usize {
        loop {
            match max.saturating_sub(self.running.load(Ordering::Relaxed)) {
                0 => self.handler_ended.notified().await,
                room => return room,
            }
        }
    }

    /// Waits until this handler has ended.
    pub(crate) async fn ended(&self, handler: &CancelHandle) {
        while !handler.has_ended() {
            self.handler_ended.notified().await;
        }
    }

    /// The leases to extend, without those that last longer because their handlers had them extended.
    pub(crate) fn to_extend(&self) -> Vec<LeaseToken> {
        let (leases, now) = (self.leases.lock(), Instant::now());
        let ends_earlier = |lease: &LeaseEntry| !lease.cancel.is_extended_beyond(now + lease.visibility_timeout);
        leases.iter().filter(|(_, lease)| ends_earlier(lease)).map(|(token, _)| token.clone()).collect()
    }

    /// The shortest time to which any of them is extended.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.leases.lock().values().map(|lease| lease.visibility_timeout).min()
    }

    /// The leases whose handlers have not ended.
    pub(crate) fn running(&self) -> Vec<LeaseToken> {
        let leases = self.leases.lock();
        leases.iter().filter(|(_, lease)| !lease.cancel.has_ended()).map(|(token, _)| token.clone()).collect()
    }

    /// Removes a lost lease, and stops its handler. Returns whether it was in the set.
    pub(crate) fn remove_lost(&self, lease: &LeaseToken) -> bool {
        let lost = self.leases.lock().remove(lease);
        if let Some(lease) = &lost {
            lease.cancel.cancel(CancelReason::LeaseLost);
        }
        lost.is_some()
    }

    /// Stops the handlers of cancelled messages.
    pub(crate) fn cancel(&self, is_cancelled: impl Fn(&LeaseToken) -> bool) {
        for (token, lease) in self.leases.lock().iter().filter(|(token, _)| is_cancelled(token)) {
            debug!(id = %token.id(), "cancelled");
            lease.cancel.cancel(CancelReason::Cancelled);
        }
    }

    fn remove(&self, leases: &[LeaseGuard]) {
        let bytes = leases.iter().map(|lease| lease.bytes).sum();
        {
            let mut extended = self.leases.lock();
            for lease in leases {
                extended.remove(&lease.token);
            }
        }
        self.metrics.leases.dec_by(gauge_value(leases.len()));
        self.capacity.release(leases.len(), bytes);
        self.count.fetch_sub(leases.len(), Ordering::Relaxed);
        let running = leases.iter().filter(|lease| lease.handler == Handler::Runs).count();
        if running > 0 {
            self.mark_handlers_ended(running);
        }
    }

    fn mark_handlers_ended(&self, handlers: usize) {
        self.running.fetch_sub(handlers, Ordering::Relaxed);
        self.handler_ended.notify_one();
    }
}

/// The memory that a message takes in the worker, about: its data above all.
pub(crate) fn bytes_of(delivery: &Delivery) -> usize {
    delivery.message.data.get().len()
}

/// One lease in the set, with its capacity. It is removed when the guard is dropped.
pub(crate) struct LeaseGuard {
    set: Option<Arc<LeaseSet>>,
    pub(crate) token: LeaseToken,
    pub(crate) cancel: CancelHandle,
    bytes: usize,
    handler: Handler,
}

/// Whether the handler of a lease counts towards the concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handler {
    Runs,
    HasEnded,
}

impl LeaseGuard {
    /// Records that the handler has ended: another one may run while this lease waits to be settled.
    pub(crate) fn mark_handler_ended(&mut self) {
        self.cancel.record_ended();
        self.handler = Handler::HasEnded;
        if let Some(set) = &self.set {
            set.mark_handlers_ended(1);
        }
    }

    /// Drops many leases of one set at once.
    pub(crate) fn drop_all(mut leases: Vec<Self>) {
        let Some(set) = leases.first_mut().and_then(|lease| lease.set.take()) else { return };
        for lease in &mut leases {
            lease.set = None;
        }
        set.remove(&leases);
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if let Some(set) = self.set.take() {
            set.remove(slice::from_ref(self));
        }
    }
}

#[cfg(test)]
mod tests {
    use queue_core::{Message, Timestamp};
    use serde_json::value::RawValue;

    use super::*;
    use crate::{config::Order, routing::Routes, runtime::WorkerMetrics};

    fn delivery(n: usize) -> Delivery {
        let id = format!("{n:014}");
        let instant = Timestamp::from_millis(1_600_000_000_000);
        Delivery {
            lease: format!("{id}-AAAAAAAAAAAAAAAAAAAAAA").parse().unwrap(),
            message: Message::started(id.parse().unwrap(), "q".parse().unwrap(), RawValue::NULL.to_owned(), instant),
            lease_expires_at: instant,
            timeout: None,
            ready_at: instant,
        }
    }

    #[tokio::test]
    async fn handler_that_has_ended_makes_room_before_its_lease_is_settled() {
        let capacity = Capacity::new(10, 10 * queue_core::Queue::MAX_BYTES, Order::Weighted);
        let metrics = WorkerMetrics::for_routes(&Routes::new()).of_pattern("q");
        let set = LeaseSet::new(capacity, Arc::new(metrics));
        let mut guards: Vec<LeaseGuard> = set
            .add((0..2).map(delivery).collect(), Duration::from_secs(1))
            .into_iter()
            .map(|(_, guard)| guard)
            .collect();
        assert_eq!((set.count(), set.room(3).await), (2, 1));
        guards[0].mark_handler_ended();
        assert_eq!((set.count(), set.room(3).await), (2, 2), "its lease waits to be settled");
        LeaseGuard::drop_all(guards.drain(..1).collect());
        assert_eq!((set.count(), set.room(3).await), (1, 2), "it is settled");
        // The guard of a dropped handler.
        drop(guards);
        assert_eq!((set.count(), set.room(3).await), (0, 3));
        assert!(set.to_extend().is_empty());
    }
}
