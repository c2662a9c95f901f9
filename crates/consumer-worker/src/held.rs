//! The leases that a line holds, and how their handlers are told to stop.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use queue_core::{Delivery, LeaseToken};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{metrics::QueueMetrics, places::Places};

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
    /// Its handler has ended: what is left is to settle.
    ended: AtomicBool,
    /// Until when its handler had the lease extended by itself.
    lasts_until: OnceLock<Mutex<Option<Instant>>>,
}

impl Stopper {
    pub(crate) fn stop(&self, reason: Stop) {
        // The first reason stays.
        let _ = self.told.reason.set(reason);
        self.token.cancel();
    }

    /// Waits until it is told.
    pub(crate) async fn told(&self) -> Stop {
        self.token.cancelled().await;
        self.told.reason.get().copied().unwrap_or(Stop::Cancelled)
    }

    /// Notes that its handler has ended.
    pub(crate) fn end(&self) {
        self.told.ended.store(true, Ordering::Relaxed);
    }

    /// Its handler has had the lease extended until then.
    pub(crate) fn lasts_until(&self, instant: Option<Instant>) {
        let lasts_until = self.told.lasts_until.get_or_init(Mutex::default);
        *lasts_until.lock() = instant;
    }

    /// Whether its lease lasts longer than until then, because its handler had it extended.
    fn lasts_beyond(&self, instant: Instant) -> bool {
        let lasts_until = self.told.lasts_until.get().map(|told| *told.lock());
        lasts_until.flatten().is_some_and(|until| until > instant)
    }
}

/// A lease that is to be extended.
struct Extended {
    stopper: Stopper,
    /// How long it lasts each time: as it was handed out, whatever the queue's setting is by now.
    visibility_timeout: Duration,
}

/// The leases that a line holds.
pub(crate) struct Held {
    /// Those that are to be extended.
    leases: Mutex<HashMap<LeaseToken, Extended>>,
    /// How many there are, lost ones too until their handlers have ended.
    count: AtomicUsize,
    freed: Notify,
    places: Arc<Places>,
    metrics: Arc<QueueMetrics>,
}

impl Held {
    pub(crate) fn new(places: Arc<Places>, metrics: Arc<QueueMetrics>) -> Arc<Self> {
        let (leases, count, freed) = (Mutex::default(), AtomicUsize::new(0), Notify::new());
        Arc::new(Self { leases, count, freed, places, metrics })
    }

    /// Holds what was leased for so long, until the guards are dropped.
    pub(crate) fn hold(
        self: &Arc<Self>,
        deliveries: Vec<Delivery>,
        visibility_timeout: Duration,
    ) -> Vec<(Delivery, HeldLease)> {
        self.count.fetch_add(deliveries.len(), Ordering::Relaxed);
        self.metrics.note_leases(deliveries.len());
        let mut leases = self.leases.lock();
        let hold = |delivery: Delivery| {
            let (lease, bytes) = (delivery.lease.clone(), bytes_of(&delivery));
            let stopper = Stopper::default();
            leases.insert(lease.clone(), Extended { stopper: stopper.clone(), visibility_timeout });
            (delivery, HeldLease { held: Some(Arc::clone(self)), lease, stopper, bytes })
        };
        deliveries.into_iter().map(hold).collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until there are fewer than so many, and answers how many more there may be. One waits at a time.
    pub(crate) async fn room(&self, concurrency: usize) -> usize {
        loop {
            match concurrency.saturating_sub(self.count()) {
                0 => self.freed.notified().await,
                room => return room,
            }
        }
    }

    /// Those to extend; without those that last longer anyway, because their handlers said so.
    pub(crate) fn to_extend(&self) -> Vec<LeaseToken> {
        let (leases, now) = (self.leases.lock(), Instant::now());
        let ends_earlier = |held: &Extended| !held.stopper.lasts_beyond(now + held.visibility_timeout);
        leases.iter().filter(|(_, held)| ends_earlier(held)).map(|(lease, _)| lease.clone()).collect()
    }

    /// The shortest time that any of them lasts.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.leases.lock().values().map(|held| held.visibility_timeout).min()
    }

    /// Those whose handlers have not ended.
    pub(crate) fn running(&self) -> Vec<LeaseToken> {
        let is_running = |stopper: &Stopper| !stopper.told.ended.load(Ordering::Relaxed);
        self.leases
            .lock()
            .iter()
            .filter(|(_, held)| is_running(&held.stopper))
            .map(|(lease, _)| lease.clone())
            .collect()
    }

    /// Extends a lease no longer: it is lost, and its handler is to stop. Answers whether it was held.
    pub(crate) fn lose(&self, lease: &LeaseToken) -> bool {
        let lost = self.leases.lock().remove(lease);
        if let Some(held) = &lost {
            held.stopper.stop(Stop::LeaseLost);
        }
        lost.is_some()
    }

    /// Tells the handlers of messages to stop that were cancelled.
    pub(crate) fn cancel(&self, is_cancelled: impl Fn(&LeaseToken) -> bool) {
        for (lease, held) in self.leases.lock().iter().filter(|(lease, _)| is_cancelled(lease)) {
            tracing::debug!(id = %lease.id(), "cancelled");
            held.stopper.stop(Stop::Cancelled);
        }
    }

    fn let_go(&self, leases: &[HeldLease]) {
        let bytes = leases.iter().map(|lease| lease.bytes).sum();
        {
            let mut held = self.leases.lock();
            for lease in leases {
                held.remove(&lease.lease);
            }
        }
        self.metrics.forget_leases(leases.len());
        self.places.give_back(leases.len(), bytes);
        self.count.fetch_sub(leases.len(), Ordering::Relaxed);
        self.freed.notify_one();
    }
}

/// What a message takes of the worker's memory, about: its data above all.
pub(crate) fn bytes_of(delivery: &Delivery) -> usize {
    delivery.message.data.get().len()
}

/// One lease that is held, with its place and its bytes.
pub(crate) struct HeldLease {
    held: Option<Arc<Held>>,
    pub(crate) lease: LeaseToken,
    pub(crate) stopper: Stopper,
    bytes: usize,
}

impl HeldLease {
    /// Lets go of many of one line at once.
    pub(crate) fn drop_all(mut leases: Vec<Self>) {
        let Some(held) = leases.first_mut().and_then(|lease| lease.held.take()) else { return };
        for lease in &mut leases {
            lease.held = None;
        }
        held.let_go(&leases);
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.let_go(std::slice::from_ref(self));
        }
    }
}
