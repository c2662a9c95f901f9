//! The capacity of a worker: the leases, and the bytes of their data, that all runners of the worker (one for each queue) may
//! have together. The capacity grants permits to runners in the order of their weights or ranks.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use parking_lot::Mutex;
use queue_core::Queue;
use tokio::sync::oneshot;

use crate::config::Order;

/// The limits of a worker: the number of its leases, and the bytes of their data.
///
/// The runner of a queue takes a permit before it leases messages. The permit covers the free leases up to the wanted number,
/// and the maximum bytes of one lease call; after the call the runner gives back the unused part of the permit. Runners wait
/// for a permit while there is no free capacity. With strict order the runner of the lowest rank gets the next permit;
/// otherwise the runner that got the fewest messages in proportion to its weight.
pub(crate) struct Capacity {
    order: Order,
    shared: Mutex<CapacityState>,
}

struct CapacityState {
    free_leases: usize,
    free_bytes: usize,
    /// The runners that wait for a permit, by precedence and number of arrival. The precedence of a runner is its place
    /// among the routes with strict order, and `served_per_weight` otherwise.
    waiting: BTreeMap<(u128, u64), Waiter>,
    /// A counter that orders runners of the same precedence by arrival.
    last_arrival: u64,
    /// The virtual time of fair queueing: the highest `served_per_weight` of a runner that was granted a permit. The
    /// `served_per_weight` of a runner that was idle rises to the virtual time, so the runner can't claim capacity for the
    /// time in which it was idle.
    virtual_time: u128,
}

struct Waiter {
    wanted: usize,
    permit_sender: oneshot::Sender<Permit>,
}

/// The state of one queue for fair queueing.
#[derive(Debug)]
pub(crate) struct FairShare {
    rank: usize,
    weight: NonZeroU32,
    /// The number of messages that the queue got so far, divided by its weight, and multiplied by
    /// [`SERVED_PER_MESSAGE`](Self::SERVED_PER_MESSAGE).
    served_per_weight: u128,
}

impl FairShare {
    /// The amount that `served_per_weight` grows by for one message of a queue of weight 1.
    const SERVED_PER_MESSAGE: u128 = 1 << 32;

    pub(crate) fn new(rank: usize, weight: NonZeroU32) -> Self {
        Self { rank, weight, served_per_weight: 0 }
    }
}

impl Capacity {
    pub(crate) fn new(leases: usize, bytes: usize, order: Order) -> Arc<Self> {
        let initial_state = CapacityState {
            free_leases: leases,
            free_bytes: bytes,
            waiting: BTreeMap::new(),
            last_arrival: 0,
            virtual_time: 0,
        };
        Arc::new(Self { order, shared: Mutex::new(initial_state) })
    }

    /// Waits for a permit for 1 to `wanted` leases. The future of `take_permit` may be dropped at any time.
    pub(crate) async fn take_permit(self: &Arc<Self>, share: &mut FairShare, wanted: usize) -> Permit {
        loop {
            let permit = {
                let mut state = self.shared.lock();
                share.served_per_weight = share.served_per_weight.max(state.virtual_time);
                if state.waiting.is_empty() && state.has_free_capacity() {
                    state.virtual_time = share.served_per_weight;
                    return self.grant_permit(&mut state, wanted);
                }
                let (permit_sender, permit) = oneshot::channel();
                state.last_arrival += 1;
                let waiter_precedence = match self.order {
                    Order::Strict => share.rank as u128,
                    Order::Weighted => share.served_per_weight,
                };
                let key = (waiter_precedence, state.last_arrival);
                state.waiting.insert(key, Waiter { wanted, permit_sender });
                permit
            };
            // Waiting for the permit can't fail: the sender of the permit is dropped without sending only after the
            // receiver of the permit was dropped.
            if let Ok(permit) = permit.await {
                return permit;
            }
        }
    }

    fn grant_permit(self: &Arc<Self>, shared: &mut CapacityState, wanted: usize) -> Permit {
        let leases = wanted.min(shared.free_leases).max(1);
        shared.free_leases -= leases;
        shared.free_bytes -= Queue::MAX_BYTES;
        Permit { capacity: Arc::clone(self), leases, bytes: Queue::MAX_BYTES }
    }

    /// Gives leases and bytes of data back to the free capacity, and grants permits to waiting runners.
    pub(crate) fn give_back(self: &Arc<Self>, leases: usize, bytes: usize) {
        let mut unclaimed_permits = Vec::new();
        let mut state = self.shared.lock();
        state.free_leases += leases;
        state.free_bytes += bytes;
        while state.has_free_capacity() {
            let Some(((precedence, _), waiter)) = state.waiting.pop_first() else { break };
            if waiter.permit_sender.is_closed() {
                continue;
            }
            if self.order == Order::Weighted {
                state.virtual_time = state.virtual_time.max(precedence);
            }
            let permit = self.grant_permit(&mut state, waiter.wanted);
            // If the waiting runner has just stopped waiting, `send` fails and gives the permit back. The returned permit is
            // dropped after the lock was released, because dropping a permit takes the lock.
            unclaimed_permits.extend(waiter.permit_sender.send(permit).err());
        }
        drop(state);
        drop(unclaimed_permits);
    }
}

impl CapacityState {
    fn has_free_capacity(&self) -> bool {
        self.free_leases > 0 && self.free_bytes >= Queue::MAX_BYTES
    }
}

/// The right to lease `leases` messages with the maximum bytes of one lease call. When a permit is dropped, the leases and
/// bytes that its runner did not [keep](Self::keep) become free capacity again.
pub(crate) struct Permit {
    capacity: Arc<Capacity>,
    pub(crate) leases: usize,
    bytes: usize,
}

impl Permit {
    /// Keeps `leases` leases and `bytes` bytes of the permit, and returns the rest to the free capacity. The caller [gives
    /// back](Capacity::give_back) the kept leases later.
    pub(crate) fn keep(mut self, share: &mut FairShare, leases: usize, bytes: usize) {
        share.served_per_weight += leases as u128 * FairShare::SERVED_PER_MESSAGE / u128::from(share.weight.get());
        self.leases = self.leases.saturating_sub(leases);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.capacity.give_back(self.leases, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fair_share(rank: usize, weight: u32) -> FairShare {
        FairShare::new(rank, NonZeroU32::new(weight).unwrap())
    }

    /// Lets two queues compete for one lease 400 times, and returns how often each queue got the lease.
    async fn times_served(order: Order, weights: [u32; 2]) -> [usize; 2] {
        let capacity = Capacity::new(1, Queue::MAX_BYTES, order);
        let (sender, mut turns) = tokio::sync::mpsc::channel(1);
        let tasks: Vec<_> = (0..2)
            .map(|rank| {
                let (capacity, sender) = (Arc::clone(&capacity), sender.clone());
                tokio::spawn(async move {
                    let mut share = fair_share(rank, weights[rank]);
                    loop {
                        capacity.take_permit(&mut share, 5).await.keep(&mut share, 1, 10);
                        if sender.send(rank).await.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        let mut served_counts = [0, 0];
        for _ in 0..400 {
            served_counts[turns.recv().await.unwrap()] += 1;
            // The two calls of `yield_now` let the tasks of both queues wait for a permit, so that the next lease may
            // go to either queue.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            capacity.give_back(1, 10);
        }
        drop(turns);
        capacity.give_back(9, 90);
        for task in tasks {
            task.await.unwrap();
        }
        served_counts
    }

    #[tokio::test]
    async fn leases_are_granted_to_queues_by_weight_or_strictly_by_rank() {
        let [heavy, light] = times_served(Order::Weighted, [3, 1]).await;
        assert!((295..=305).contains(&heavy) && heavy + light == 400, "{heavy}:{light}");
        let [first_count, second_count] = times_served(Order::Strict, [1, 9]).await;
        assert!(second_count <= 2, "{first_count}:{second_count}");
    }

    #[tokio::test]
    async fn unused_leases_of_a_queue_are_available_to_other_queues() {
        let capacity = Capacity::new(4, Queue::MAX_BYTES + 100, Order::Weighted);
        let mut first_share = fair_share(0, 1);
        let permit = capacity.take_permit(&mut first_share, 3).await;
        assert_eq!(permit.leases, 3);
        permit.keep(&mut first_share, 1, 50);
        let second_permit = capacity.take_permit(&mut fair_share(1, 1), 9).await;
        assert_eq!(second_permit.leases, 3);
        // No lease is free. A runner that stops waiting for a permit must not reduce the capacity.
        let mut third_share = fair_share(2, 1);
        let unserved_waiter =
            tokio::time::timeout(std::time::Duration::from_millis(5), capacity.take_permit(&mut third_share, 1));
        assert!(unserved_waiter.await.is_err());
        drop(second_permit);
        capacity.give_back(1, 50);
        assert_eq!(capacity.take_permit(&mut fair_share(3, 1), 9).await.leases, 4);
    }
}
