//! The set of one runner's leases. The set stops the handlers of cancelled messages and of lost leases.

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

/// A lease that the heartbeat extends.
struct LeaseEntry {
    cancel: CancelHandle,
    /// The duration of each extension of the lease: the visibility timeout that the queue had when the message was leased, even
    /// if the queue's setting has changed since.
    visibility_timeout: Duration,
}

/// The leases of one runner: the task that leases the messages of one queue.
pub(crate) struct LeaseSet {
    /// The leases that the heartbeat extends.
    leases: Mutex<HashMap<LeaseToken, LeaseEntry>>,
    /// The number of the runner's leases. This number includes a lost lease until the handler of the lease has ended.
    count: AtomicUsize,
    /// The number of leases whose handlers have not ended, including handlers that have not started.
    unfinished_handler_count: AtomicUsize,
    handler_ended: Notify,
    capacity: Arc<Capacity>,
    metrics: Arc<QueueMetrics>,
}

impl LeaseSet {
    pub(crate) fn new(capacity: Arc<Capacity>, metrics: Arc<QueueMetrics>) -> Arc<Self> {
        Arc::new(Self {
            leases: Mutex::default(),
            count: AtomicUsize::new(0),
            unfinished_handler_count: AtomicUsize::new(0),
            handler_ended: Notify::new(),
            capacity,
            metrics,
        })
    }

    /// Adds the leases of `deliveries`, which last for `visibility_timeout`. Each lease stays in the set until its guard is
    /// dropped.
    pub(crate) fn add(self: &Arc<Self>, deliveries: &[Delivery], visibility_timeout: Duration) -> Vec<LeaseGuard> {
        self.count.fetch_add(deliveries.len(), Ordering::Relaxed);
        self.unfinished_handler_count.fetch_add(deliveries.len(), Ordering::Relaxed);
        self.metrics.leases.inc_by(gauge_value(deliveries.len()));
        let mut leases = self.leases.lock();
        let add = |delivery: &Delivery| {
            let (token, bytes) = (delivery.lease.clone(), data_bytes(delivery));
            let cancel = CancelHandle::default();
            leases.insert(token.clone(), LeaseEntry { cancel: cancel.clone(), visibility_timeout });
            LeaseGuard { set: Some(Arc::clone(self)), token, cancel, bytes, handler: HandlerState::NotEnded }
        };
        deliveries.iter().map(add).collect()
    }

    /// Returns the number of leases.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until fewer than `max` leases have handlers that have not ended. Returns how many leases may be added. Only one task
    /// at a time may wait in `wait_for_room` or in [`wait_until_ended`](Self::wait_until_ended).
    pub(crate) async fn wait_for_room(&self, max: usize) -> usize {
        loop {
            match max.saturating_sub(self.unfinished_handler_count.load(Ordering::Relaxed)) {
                0 => self.handler_ended.notified().await,
                room => return room,
            }
        }
    }

    /// Waits until one handler has ended.
    pub(crate) async fn wait_until_ended(&self, handler: &CancelHandle) {
        while !handler.has_ended() {
            self.handler_ended.notified().await;
        }
    }

    /// Returns the leases that the heartbeat must extend: all leases except those that their handlers have extended for longer.
    pub(crate) fn leases_to_extend(&self) -> Vec<LeaseToken> {
        let (leases, now) = (self.leases.lock(), Instant::now());
        let needs_extension = |lease: &LeaseEntry| !lease.cancel.is_extended_beyond(now + lease.visibility_timeout);
        leases.iter().filter(|(_, lease)| needs_extension(lease)).map(|(token, _)| token.clone()).collect()
    }

    /// Returns the shortest visibility timeout of the leases.
    pub(crate) fn min_visibility_timeout(&self) -> Option<Duration> {
        self.leases.lock().values().map(|lease| lease.visibility_timeout).min()
    }

    /// Returns the leases whose handlers have not ended.
    pub(crate) fn leases_of_unfinished_handlers(&self) -> Vec<LeaseToken> {
        let leases = self.leases.lock();
        leases.iter().filter(|(_, lease)| !lease.cancel.has_ended()).map(|(token, _)| token.clone()).collect()
    }

    /// Removes a lost lease, and stops its handler. Returns whether the lease was in the set.
    pub(crate) fn remove_lost(&self, lease: &LeaseToken) -> bool {
        let lost_entry = self.leases.lock().remove(lease);
        if let Some(lease) = &lost_entry {
            lease.cancel.cancel(CancelReason::LeaseLost);
        }
        lost_entry.is_some()
    }

    /// Stops the handlers of cancelled messages.
    pub(crate) fn cancel(&self, is_cancelled: impl Fn(&LeaseToken) -> bool) {
        for (token, lease) in self.leases.lock().iter().filter(|(token, _)| is_cancelled(token)) {
            debug!(id = %token.id(), "cancelled");
            lease.cancel.cancel(CancelReason::Cancelled);
        }
    }

    fn remove(&self, leases: &[LeaseGuard]) {
        let total_bytes = leases.iter().map(|lease| lease.bytes).sum();
        {
            let mut entries = self.leases.lock();
            for lease in leases {
                entries.remove(&lease.token);
            }
        }
        self.metrics.leases.dec_by(gauge_value(leases.len()));
        self.capacity.give_back(leases.len(), total_bytes);
        self.count.fetch_sub(leases.len(), Ordering::Relaxed);
        let unfinished_handler_count = leases.iter().filter(|lease| lease.handler == HandlerState::NotEnded).count();
        if unfinished_handler_count > 0 {
            self.mark_handlers_ended(unfinished_handler_count);
        }
    }

    fn mark_handlers_ended(&self, handlers: usize) {
        self.unfinished_handler_count.fetch_sub(handlers, Ordering::Relaxed);
        self.handler_ended.notify_one();
    }
}

/// Returns the approximate memory that a message takes in the worker: the size of its data.
pub(crate) fn data_bytes(delivery: &Delivery) -> usize {
    delivery.message.data.get().len()
}

/// One lease in a lease set, and its part of the worker's limits of leases and bytes. Dropping the guard removes the
/// lease from the set and gives back this part of the limits.
pub(crate) struct LeaseGuard {
    set: Option<Arc<LeaseSet>>,
    pub(crate) token: LeaseToken,
    pub(crate) cancel: CancelHandle,
    bytes: usize,
    handler: HandlerState,
}

/// Whether the handler of a lease counts towards the concurrency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HandlerState {
    NotEnded,
    Ended,
}

impl LeaseGuard {
    /// Records that the handler of the lease has ended, so that another handler may run while the lease waits to be settled.
    pub(crate) fn mark_handler_ended(&mut self) {
        self.cancel.record_ended();
        self.handler = HandlerState::Ended;
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

    fn test_delivery(n: usize) -> Delivery {
        let id = format!("{n:014}");
        let creation_time = Timestamp::from_millis(1_600_000_000_000);
        Delivery {
            lease: format!("{id}-AAAAAAAAAAAAAAAAAAAAAA").parse().unwrap(),
            message: Message::started(
                id.parse().unwrap(),
                "q".parse().unwrap(),
                RawValue::NULL.to_owned(),
                creation_time,
            ),
            lease_expires_at: creation_time,
            timeout: None,
            ready_at: creation_time,
        }
    }

    #[tokio::test]
    async fn handler_that_has_ended_makes_room_before_its_lease_is_settled() {
        let capacity = Capacity::new(10, 10 * queue_core::Queue::MAX_BYTES, Order::Weighted);
        let metrics = WorkerMetrics::for_routes(&Routes::new()).metrics_of_pattern("q");
        let set = LeaseSet::new(capacity, Arc::new(metrics));
        let mut lease_guards = set.add(&[0, 1].map(test_delivery), Duration::from_secs(1));
        assert_eq!((set.count(), set.wait_for_room(3).await), (2, 1));
        lease_guards[0].mark_handler_ended();
        assert_eq!((set.count(), set.wait_for_room(3).await), (2, 2), "the first lease waits to be settled");
        LeaseGuard::drop_all(lease_guards.drain(..1).collect());
        assert_eq!((set.count(), set.wait_for_room(3).await), (1, 2), "the first lease is settled");
        // The test drops the guard of the handler that has not ended.
        drop(lease_guards);
        assert_eq!((set.count(), set.wait_for_room(3).await), (0, 3));
        assert!(set.leases_to_extend().is_empty());
    }
}
