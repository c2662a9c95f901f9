//! Extends the leases of all lines while their handlers run, and passes on cancellations.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use queue_core::{Extended, LeaseToken, Millis, Queue, QueueName, WakeTimers};
use tracing::warn;

use crate::held::Held;

/// How soon after a cancel the leases of a queue are extended, which tells of every message that is to be cancelled.
const SOON: Duration = Duration::from_millis(200);
/// For how many queues leases are extended at a time.
const AT_A_TIME: usize = 16;

/// Extends the leases of all lines while their handlers run: three times within each visibility timeout, so that one lost
/// call costs none of them. Passes on what is cancelled meanwhile: the bell tells at once, and if that was lost the next
/// beat does.
#[derive(Default)]
pub(crate) struct Heartbeat {
    timers: WakeTimers,
    charges: Mutex<HashMap<QueueName, Arc<Charge>>>,
}

/// The leases of one line.
pub(crate) struct Charge {
    pub(crate) queue: Arc<Queue>,
    pub(crate) held: Arc<Held>,
    /// The shortest time that any of them lasts, in ms.
    shortest: AtomicU64,
}

impl Charge {
    pub(crate) fn new(queue: Arc<Queue>, held: Arc<Held>) -> Arc<Self> {
        Arc::new(Self { queue, held, shortest: AtomicU64::new(u64::MAX) })
    }

    /// How far apart its beats are.
    fn pause(&self) -> Duration {
        Duration::from_millis(self.shortest.load(Ordering::Relaxed)) / 3
    }
}

impl Heartbeat {
    /// Sees to the leases of a line from now on, until it has none. New ones last so long each time.
    pub(crate) fn watch(&self, charge: &Arc<Charge>, visibility_timeout: Millis) {
        let before = charge.shortest.fetch_min(visibility_timeout.get(), Ordering::Relaxed);
        let is_new = self.charges.lock().insert(charge.queue.name().clone(), Arc::clone(charge)).is_none();
        // If they are shorter than those before, the next beat is due earlier; never later, for those before last as they did.
        if is_new || visibility_timeout.get() < before {
            self.timers.set(charge.queue.name().clone(), visibility_timeout.to_std() / 3);
        }
    }

    /// Extends the leases of a queue soon: one that is to be cancelled was leased but not held yet, perhaps.
    pub(crate) fn look_soon(&self, queue: &QueueName) {
        self.timers.set(queue.clone(), SOON);
    }

    /// Beats until it is dropped.
    pub(crate) async fn run(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                name = self.timers.next(), if under_way.len() < AT_A_TIME => {
                    if let Some(charge) = self.charge(&name) {
                        under_way.push(async move {
                            beat(&charge).await;
                            charge
                        });
                    }
                }
                Some(charge) = under_way.next(), if !under_way.is_empty() => {
                    // Spread a little, so that the beats of many queues that began together do not stay together.
                    let pause = charge.pause().mul_f64(rand::random_range(0.8..=1.0));
                    self.timers.set(charge.queue.name().clone(), pause);
                }
            }
        }
    }

    /// The line to beat for, unless it holds nothing any longer; then it is forgotten.
    fn charge(&self, name: &QueueName) -> Option<Arc<Charge>> {
        let mut charges = self.charges.lock();
        let charge = charges.get(name)?;
        if charge.held.count() == 0 {
            charges.remove(name);
            return None;
        }
        Some(Arc::clone(charge))
    }
}

async fn beat(charge: &Charge) {
    let Charge { queue, held, .. } = charge;
    if let Some(shortest) = held.shortest() {
        charge.shortest.store(u64::try_from(shortest.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    let leases = held.to_extend();
    if leases.is_empty() {
        return;
    }
    // An error is the driver's to tell: it meets the same one. The next beat tries again.
    let Ok(extended) = queue.extend(&leases, None).await else { return };
    let mut cancelled: HashSet<&LeaseToken> = HashSet::new();
    for (lease, extended) in leases.iter().zip(extended) {
        match extended {
            Extended::ToBeCancelled(_) => {
                cancelled.insert(lease);
            }
            // One that was settled in the meantime is no longer held and nothing is lost.
            Extended::LeaseOver if held.lose(lease) => {
                warn!(queue = %queue.name(), id = %lease.id(), "a lease lapsed while its handler runs");
            }
            Extended::Until(_) | Extended::LeaseOver => {}
        }
    }
    if !cancelled.is_empty() {
        held.cancel(|lease| cancelled.contains(lease));
    }
}
