//! The handler slots of one queue: as many handlers run at once as there are slots. Messages that were leased ahead wait until a
//! slot is free.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use queue_core::Delivery;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::lease_set::LeaseGuard;

/// A leased message whose handler has not started.
pub(crate) struct Unstarted {
    pub(crate) delivery: Delivery,
    pub(crate) lease: LeaseGuard,
    since: Instant,
}

/// The handler slots of one queue.
pub(crate) struct HandlerSlots {
    count: usize,
    shared: Mutex<Shared>,
    begins_to_wait: Notify,
}

#[derive(Default)]
struct Shared {
    used: usize,
    waiting: VecDeque<Unstarted>,
    /// The number of handlers that have ended so far.
    ended: u64,
    /// The sum of their run times.
    run_time: Duration,
}

/// A message whose handler does not start within this time does not start: it is returned to the queue.
const MAX_WAIT: Duration = Duration::from_millis(100);

impl Unstarted {
    fn is_overdue(&self) -> bool {
        self.since.elapsed() >= MAX_WAIT
    }
}

impl Shared {
    /// Whether a message waits too long: the handlers have become slow, or the process was suspended.
    fn is_overdue(&self) -> bool {
        self.waiting.front().is_some_and(Unstarted::is_overdue)
    }
}

impl HandlerSlots {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { count, shared: Mutex::default(), begins_to_wait: Notify::new() })
    }

    /// Adds leased messages. Returns those that start now, each with its slot; the others wait.
    pub(crate) fn add(self: &Arc<Self>, leased: Vec<(Delivery, LeaseGuard)>) -> Vec<(Slot, Unstarted)> {
        let since = Instant::now();
        let mut shared = self.shared.lock();
        shared.waiting.extend(leased.into_iter().map(|(delivery, lease)| Unstarted { delivery, lease, since }));
        let free = if shared.is_overdue() { 0 } else { self.count.saturating_sub(shared.used) };
        let free = free.min(shared.waiting.len());
        shared.used += free;
        let slot = |message| (Slot { slots: Arc::clone(self), is_used: true }, message);
        let start = shared.waiting.drain(..free).map(slot).collect();
        if !shared.waiting.is_empty() {
            self.begins_to_wait.notify_one();
        }
        start
    }

    /// Takes all messages that wait.
    pub(crate) fn take_waiting(&self) -> Vec<Unstarted> {
        self.shared.lock().waiting.drain(..).collect()
    }

    /// Waits until a message has waited too long, and takes all messages that wait.
    pub(crate) async fn overdue(&self) -> Vec<Unstarted> {
        loop {
            let oldest = self.shared.lock().waiting.front().map(|message| message.since);
            let Some(oldest) = oldest else {
                self.begins_to_wait.notified().await;
                continue;
            };
            sleep_until(oldest + MAX_WAIT).await;
            let mut shared = self.shared.lock();
            if shared.is_overdue() {
                return shared.waiting.drain(..).collect();
            }
        }
    }

    /// The number of handlers that have ended so far, and the sum of their run times.
    pub(crate) fn ended(&self) -> (u64, Duration) {
        let shared = self.shared.lock();
        (shared.ended, shared.run_time)
    }
}

/// A slot in use by one task, which runs one handler after the other in it.
pub(crate) struct Slot {
    slots: Arc<HandlerSlots>,
    is_used: bool,
}

impl Slot {
    /// Records that a handler has ended after this time, and returns the next message. Without one the slot is free again.
    pub(crate) fn next(&mut self, took: Duration) -> Option<Unstarted> {
        let mut shared = self.slots.shared.lock();
        shared.ended += 1;
        shared.run_time += took;
        let next = if shared.is_overdue() { None } else { shared.waiting.pop_front() };
        if next.is_none() {
            shared.used -= 1;
            self.is_used = false;
        }
        next
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_used {
            self.slots.shared.lock().used -= 1;
        }
    }
}
