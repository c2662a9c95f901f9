//! The heartbeat extends the leases of all runners while their handlers run, and cancels handlers whose cancel notification
//! was lost.

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
use queue_core::{Extended, LeaseToken, Millis, Queue, QueueName, wakeup::WakeTimers};
use tracing::warn;

use super::lease_set::LeaseSet;

/// The delay after which `extend_soon` makes the heartbeat extend the leases of a queue. The answer to the extension
/// tells which messages are cancelled and which leases are over.
const EARLY_BEAT_DELAY: Duration = Duration::from_millis(200);
/// The maximum number of queues whose leases are extended concurrently.
const MAX_CONCURRENT_EXTENSIONS: usize = 16;

/// Extends the leases of all runners three times within each visibility timeout, so that no lease lapses when one call fails. A
/// beat of the heartbeat also finds cancelled messages whose notification was lost.
#[derive(Default)]
pub(crate) struct Heartbeat {
    timers: WakeTimers,
    tracked: Mutex<HashMap<QueueName, Arc<TrackedLeases>>>,
}

/// The leases of one runner, which is the task that leases the messages of one queue.
pub(crate) struct TrackedLeases {
    pub(crate) queue: Arc<Queue>,
    pub(crate) leases: Arc<LeaseSet>,
    /// The shortest visibility timeout of the runner's leases, in ms.
    min_visibility_timeout: AtomicU64,
}

impl TrackedLeases {
    pub(crate) fn new(queue: Arc<Queue>, leases: Arc<LeaseSet>) -> Arc<Self> {
        Arc::new(Self { queue, leases, min_visibility_timeout: AtomicU64::new(u64::MAX) })
    }

    /// Returns the longest pause between two beats of the heartbeat: a third of the shortest visibility timeout.
    fn max_pause(&self) -> Duration {
        Duration::from_millis(self.min_visibility_timeout.load(Ordering::Relaxed)) / 3
    }

    /// Extends the leases of the runner, and stops the handlers of cancelled messages and lost leases.
    async fn extend_leases(&self) {
        if let Some(min) = self.leases.min_visibility_timeout() {
            self.min_visibility_timeout.store(u64::try_from(min.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        let leases = self.leases.leases_to_extend();
        if leases.is_empty() {
            return;
        }
        // The heartbeat does not log an error of Redis, because the runner gets the same error and logs the error. The next
        // beat of the heartbeat extends the leases again.
        let Ok(extended) = self.queue.extend(&leases, None).await else { return };
        let mut cancelled_leases: HashSet<&LeaseToken> = HashSet::new();
        for (lease, extended) in leases.iter().zip(extended) {
            match extended {
                Extended::ToBeCancelled(_) => {
                    cancelled_leases.insert(lease);
                }
                // If the lease was settled while Redis answered, the runner's lease set does not contain the lease any
                // more, and `remove_lost` returns false.
                Extended::LeaseOver if self.leases.remove_lost(lease) => {
                    warn!(queue = %self.queue.name(), id = %lease.id(), "a lease lapsed while its handler runs");
                }
                Extended::Until(_) | Extended::LeaseOver => {}
            }
        }
        if !cancelled_leases.is_empty() {
            self.leases.cancel(|lease| cancelled_leases.contains(lease));
        }
    }
}

impl Heartbeat {
    /// Extends the leases of a runner from now on, until the runner has no leases. The runner's newest leases have the given
    /// visibility timeout.
    pub(crate) fn track(&self, leases: &Arc<TrackedLeases>, visibility_timeout: Millis) {
        let previous_timeout = leases.min_visibility_timeout.fetch_min(visibility_timeout.get(), Ordering::Relaxed);
        let name = leases.queue.name();
        let is_new_queue = self.tracked.lock().insert(name.clone(), Arc::clone(leases)).is_none();
        // If the visibility timeout has become shorter, the next beat comes earlier. If the visibility timeout has become
        // longer, the next beat does not come later, because the older leases keep their timeout.
        if is_new_queue || visibility_timeout.get() < previous_timeout {
            self.timers.set(name.clone(), visibility_timeout.to_std() / 3);
        }
    }

    /// Schedules an early extension of the leases of a queue. An early extension finds messages that were cancelled before
    /// the runner's lease set contained their leases. An early extension also finds the lost leases of a deleted queue.
    pub(crate) fn extend_soon(&self, queue: &QueueName) {
        self.timers.set(queue.clone(), EARLY_BEAT_DELAY);
    }

    /// Extends leases periodically until the future of `run` is dropped.
    pub(crate) async fn run(&self) {
        let mut extensions = FuturesUnordered::new();
        loop {
            tokio::select! {
                name = self.timers.next(), if extensions.len() < MAX_CONCURRENT_EXTENSIONS => {
                    if let Some(leases) = self.leases_of(&name) {
                        extensions.push(async move {
                            leases.extend_leases().await;
                            leases
                        });
                    }
                }
                Some(leases) = extensions.next(), if !extensions.is_empty() => {
                    // The pause before the next extension of a queue's leases is random, so that the extensions of many
                    // queues are spread over time.
                    let beat_pause = leases.max_pause().mul_f64(rand::random_range(0.8..=1.0));
                    self.timers.set(leases.queue.name().clone(), beat_pause);
                }
            }
        }
    }

    /// Returns the leases of a queue. If the queue has no leases, the heartbeat stops tracking it.
    fn leases_of(&self, name: &QueueName) -> Option<Arc<TrackedLeases>> {
        let mut tracked_leases = self.tracked.lock();
        let leases = tracked_leases.get(name)?;
        if leases.leases.count() == 0 {
            tracked_leases.remove(name);
            return None;
        }
        Some(Arc::clone(leases))
    }
}
