//! The capacity of a process for leases and bytes, which all its runners share: permits for it, and the order in which runners
//! that wait for permits get them.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use parking_lot::Mutex;
use queue_core::Queue;
use tokio::sync::oneshot;

use crate::config::Order;

/// The leases that a worker may hold, and the bytes of their data.
///
/// A runner takes a permit before it leases: for as many leases as are free, and for all bytes that one call may bring. It
/// returns the part that the call did not bring at once. Without free capacity runners wait: in strict order by rank, else in
/// the order of the messages that they had, divided by their weights.
pub(crate) struct Capacity {
    order: Order,
    shared: Mutex<Shared>,
}

struct Shared {
    free: usize,
    bytes_free: usize,
    waiting: BTreeMap<(u128, u64), Waiting>,
    /// A counter, so that of two equal runners the first one goes first.
    tickets: u64,
    /// The messages that the runner which went last has had. A runner that comes after a rest begins there, without a claim to
    /// the capacity that it did not use.
    level: u128,
}

struct Waiting {
    wanted: usize,
    granted: oneshot::Sender<Permit>,
}

/// The share of one queue.
#[derive(Debug)]
pub(crate) struct FairShare {
    rank: usize,
    weight: NonZeroU32,
    /// The messages that it has had, divided by its weight.
    had: u128,
}

impl FairShare {
    /// One message of a queue of weight 1.
    const ONE: u128 = 1 << 32;

    pub(crate) fn new(rank: usize, weight: NonZeroU32) -> Self {
        Self { rank, weight, had: 0 }
    }
}

impl Capacity {
    pub(crate) fn new(leases: usize, bytes: usize, order: Order) -> Arc<Self> {
        let shared = Shared { free: leases, bytes_free: bytes, waiting: BTreeMap::new(), tickets: 0, level: 0 };
        Arc::new(Self { order, shared: Mutex::new(shared) })
    }

    /// Takes a permit for up to this many leases, at least one. The future may be dropped at any time.
    pub(crate) async fn take(self: &Arc<Self>, share: &mut FairShare, wanted: usize) -> Permit {
        loop {
            let granted = {
                let mut shared = self.shared.lock();
                share.had = share.had.max(shared.level);
                if shared.waiting.is_empty() && shared.has_some() {
                    shared.level = share.had;
                    return self.grant(&mut shared, wanted);
                }
                let (granted, permit) = oneshot::channel();
                shared.tickets += 1;
                let turn = match self.order {
                    Order::Strict => share.rank as u128,
                    Order::Weighted => share.had,
                };
                let ticket = (turn, shared.tickets);
                shared.waiting.insert(ticket, Waiting { wanted, granted });
                permit
            };
            // The sender is dropped without a permit only when the receiver was dropped.
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    fn grant(self: &Arc<Self>, shared: &mut Shared, wanted: usize) -> Permit {
        let leases = wanted.min(shared.free).max(1);
        shared.free -= leases;
        shared.bytes_free -= Queue::MAX_BYTES;
        Permit { capacity: Arc::clone(self), leases, bytes: Queue::MAX_BYTES }
    }

    /// Returns leases and bytes, and grants permits to runners that wait.
    pub(crate) fn release(self: &Arc<Self>, leases: usize, bytes: usize) {
        let mut unclaimed = Vec::new();
        let mut shared = self.shared.lock();
        shared.free += leases;
        shared.bytes_free += bytes;
        while shared.has_some() {
            let Some(((turn, _), waiting)) = shared.waiting.pop_first() else { break };
            if waiting.granted.is_closed() {
                continue;
            }
            if self.order == Order::Weighted {
                shared.level = shared.level.max(turn);
            }
            let permit = self.grant(&mut shared, waiting.wanted);
            // The permit of a runner that stopped waiting in this moment is dropped after the lock, because its drop takes it.
            unclaimed.extend(waiting.granted.send(permit).err());
        }
        drop(shared);
        drop(unclaimed);
    }
}

impl Shared {
    fn has_some(&self) -> bool {
        self.free > 0 && self.bytes_free >= Queue::MAX_BYTES
    }
}

/// The right to lease this many messages, and to hold the bytes that one call may return. Dropping it returns the unused part.
pub(crate) struct Permit {
    capacity: Arc<Capacity>,
    pub(crate) leases: usize,
    bytes: usize,
}

impl Permit {
    /// Keeps this many leases and bytes, and returns the rest. The leases that are kept are
    /// [returned](Capacity::release) one by one.
    pub(crate) fn keep(mut self, share: &mut FairShare, leases: usize, bytes: usize) {
        share.had += leases as u128 * FairShare::ONE / u128::from(share.weight.get());
        self.leases = self.leases.saturating_sub(leases);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.capacity.release(self.leases, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = Queue::MAX_BYTES;

    fn share(rank: usize, weight: u32) -> FairShare {
        FairShare::new(rank, NonZeroU32::new(weight).unwrap())
    }

    /// Two queues always want more, and there is one lease: the number of times of 400 that each of them gets it.
    async fn shares(order: Order, weights: [u32; 2]) -> [usize; 2] {
        let capacity = Capacity::new(1, ROOM, order);
        let (sender, mut turns) = tokio::sync::mpsc::channel(1);
        let tasks: Vec<_> = (0..2)
            .map(|rank| {
                let (capacity, sender) = (Arc::clone(&capacity), sender.clone());
                tokio::spawn(async move {
                    let mut share = share(rank, weights[rank]);
                    loop {
                        capacity.take(&mut share, 5).await.keep(&mut share, 1, 10);
                        if sender.send(rank).await.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        let mut had = [0, 0];
        for _ in 0..400 {
            had[turns.recv().await.unwrap()] += 1;
            // So that both wait again.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            capacity.release(1, 10);
        }
        drop(turns);
        capacity.release(9, 90);
        for task in tasks {
            task.await.unwrap();
        }
        had
    }

    #[tokio::test]
    async fn permits_are_granted_by_weight_or_strictly_by_rank() {
        let [heavy, light] = shares(Order::Weighted, [3, 1]).await;
        assert!((295..=305).contains(&heavy) && heavy + light == 400, "{heavy}:{light}");
        let [first, second] = shares(Order::Strict, [1, 9]).await;
        assert!(second <= 2, "{first}:{second}");
    }

    #[tokio::test]
    async fn unused_capacity_is_available_to_other_queues() {
        let capacity = Capacity::new(4, ROOM + 100, Order::Weighted);
        let mut mine = share(0, 1);
        let permit = capacity.take(&mut mine, 3).await;
        assert_eq!(permit.leases, 3);
        permit.keep(&mut mine, 1, 50);
        let other = capacity.take(&mut share(1, 1), 9).await;
        assert_eq!(other.leases, 3);
        // No lease is left: a runner that stops waiting costs the others nothing.
        let mut third = share(2, 1);
        let gave_up = tokio::time::timeout(std::time::Duration::from_millis(5), capacity.take(&mut third, 1));
        assert!(gave_up.await.is_err());
        drop(other);
        capacity.release(1, 50);
        assert_eq!(capacity.take(&mut share(3, 1), 9).await.leases, 4);
    }
}
