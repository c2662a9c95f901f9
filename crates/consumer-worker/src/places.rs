//! The permits for leases and bytes that all lines of a process share.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use crate::config::Order;
use parking_lot::Mutex;
use queue_core::Queue;
use tokio::sync::oneshot;

/// What all queues of a worker share: how many leases it may hold, and how many bytes of data.
///
/// Who wants to lease takes places first, as many as are free, and room for all that one call may bring; what the call did
/// not bring is given back at once. While nothing is left they stand in line: in strict order by rank, else the one first
/// that has had least for its weight.
pub(crate) struct Places {
    order: Order,
    shared: Mutex<Shared>,
}

struct Shared {
    free: usize,
    bytes_free: usize,
    line: BTreeMap<(u128, u64), Waiting>,
    /// So that of equals the first one goes first.
    tickets: u64,
    /// How much the one has had that went last. Who comes after a rest begins there, with no claim to what it left.
    level: u128,
}

struct Waiting {
    wanted: usize,
    granted: oneshot::Sender<Grant>,
}

/// The account of one queue.
#[derive(Debug)]
pub(crate) struct Account {
    rank: usize,
    weight: NonZeroU32,
    /// What it has had, divided by its weight.
    had: u128,
}

impl Account {
    /// One message of a queue of weight 1.
    const ONE: u128 = 1 << 32;

    pub(crate) fn new(rank: usize, weight: NonZeroU32) -> Self {
        Self { rank, weight, had: 0 }
    }
}

impl Places {
    pub(crate) fn new(leases: usize, bytes: usize, order: Order) -> Arc<Self> {
        let shared = Shared { free: leases, bytes_free: bytes, line: BTreeMap::new(), tickets: 0, level: 0 };
        Arc::new(Self { order, shared: Mutex::new(shared) })
    }

    /// Takes up to so many places, at least one. Safe to give up half-way.
    pub(crate) async fn take(self: &Arc<Self>, account: &mut Account, wanted: usize) -> Grant {
        loop {
            let granted = {
                let mut shared = self.shared.lock();
                account.had = account.had.max(shared.level);
                if shared.line.is_empty() && shared.has_some() {
                    shared.level = account.had;
                    return self.grant(&mut shared, wanted);
                }
                let (granted, grant) = oneshot::channel();
                shared.tickets += 1;
                let turn = match self.order {
                    Order::Strict => account.rank as u128,
                    Order::Weighted => account.had,
                };
                let ticket = (turn, shared.tickets);
                shared.line.insert(ticket, Waiting { wanted, granted });
                grant
            };
            // One that was given up is passed over; the sender never goes otherwise.
            if let Ok(grant) = granted.await {
                return grant;
            }
        }
    }

    fn grant(self: &Arc<Self>, shared: &mut Shared, wanted: usize) -> Grant {
        let leases = wanted.min(shared.free).max(1);
        shared.free -= leases;
        shared.bytes_free -= Queue::MAX_BYTES;
        Grant { places: Arc::clone(self), leases, bytes: Queue::MAX_BYTES }
    }

    /// Gives back places and bytes, and lets those in who wait for them.
    pub(crate) fn give_back(self: &Arc<Self>, leases: usize, bytes: usize) {
        let mut turned_down = Vec::new();
        let mut shared = self.shared.lock();
        shared.free += leases;
        shared.bytes_free += bytes;
        while shared.has_some() {
            let Some(((turn, _), waiting)) = shared.line.pop_first() else { break };
            if waiting.granted.is_closed() {
                continue;
            }
            if self.order == Order::Weighted {
                shared.level = shared.level.max(turn);
            }
            let grant = self.grant(&mut shared, waiting.wanted);
            // Whoever gave up in this moment: dropped when the lock is free again, for that gives it back.
            turned_down.extend(waiting.granted.send(grant).err());
        }
        drop(shared);
        drop(turned_down);
    }
}

impl Shared {
    fn has_some(&self) -> bool {
        self.free > 0 && self.bytes_free >= Queue::MAX_BYTES
    }
}

/// Places, and room for what one call may bring, that are given back when dropped.
pub(crate) struct Grant {
    places: Arc<Places>,
    pub(crate) leases: usize,
    bytes: usize,
}

impl Grant {
    /// Keeps so many of the places, and room for so many bytes; gives back the rest. Who keeps them
    /// [gives them back](Places::give_back) lease by lease.
    pub(crate) fn keep(mut self, account: &mut Account, leases: usize, bytes: usize) {
        account.had += leases as u128 * Account::ONE / u128::from(account.weight.get());
        self.leases = self.leases.saturating_sub(leases);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.places.give_back(self.leases, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = Queue::MAX_BYTES;

    fn account(rank: usize, weight: u32) -> Account {
        Account::new(rank, NonZeroU32::new(weight).unwrap())
    }

    /// Two queues that always want more, one place: who gets it how often of 400 times.
    async fn shares(order: Order, weights: [u32; 2]) -> [usize; 2] {
        let places = Places::new(1, ROOM, order);
        let (sender, mut turns) = tokio::sync::mpsc::channel(1);
        let tasks: Vec<_> = (0..2)
            .map(|rank| {
                let (places, sender) = (Arc::clone(&places), sender.clone());
                tokio::spawn(async move {
                    let mut account = account(rank, weights[rank]);
                    loop {
                        places.take(&mut account, 5).await.keep(&mut account, 1, 10);
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
            // So that both stand in line again.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            places.give_back(1, 10);
        }
        drop(turns);
        places.give_back(9, 90);
        for task in tasks {
            task.await.unwrap();
        }
        had
    }

    #[tokio::test]
    async fn places_go_by_weight_or_strictly_by_rank() {
        let [heavy, light] = shares(Order::Weighted, [3, 1]).await;
        assert!((295..=305).contains(&heavy) && heavy + light == 400, "{heavy}:{light}");
        let [first, second] = shares(Order::Strict, [1, 9]).await;
        assert!(second <= 2, "{first}:{second}");
    }

    #[tokio::test]
    async fn what_was_not_needed_or_given_up_is_there_for_others() {
        let places = Places::new(4, ROOM + 100, Order::Weighted);
        let mut mine = account(0, 1);
        let grant = places.take(&mut mine, 3).await;
        assert_eq!(grant.leases, 3);
        grant.keep(&mut mine, 1, 50);
        let other = places.take(&mut account(1, 1), 9).await;
        assert_eq!(other.leases, 3);
        // No place is left: who waits and gives up costs nobody anything.
        let mut third = account(2, 1);
        let gave_up = tokio::time::timeout(std::time::Duration::from_millis(5), places.take(&mut third, 1));
        assert!(gave_up.await.is_err());
        drop(other);
        places.give_back(1, 50);
        assert_eq!(places.take(&mut account(3, 1), 9).await.leases, 4);
    }
}
