//! The handler slots of one queue: at most as many handlers run at once as there are slots. Messages that were leased ahead wait
//! until a slot is free.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use queue_core::Timestamp;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::lease_set::LeaseGuard;
use crate::job::Job;

/// A leased message whose handler has not started.
pub(crate) struct UnstartedMessage {
    pub(crate) job: Job,
    /// The instant at which the unstarted message became ready to be leased, by Redis's clock.
    pub(crate) ready_at: Timestamp,
    pub(crate) lease: LeaseGuard,
    /// The instant at which the message reached this worker.
    pub(crate) waits_since: Instant,
}

/// The handler slots of one queue.
pub(crate) struct HandlerSlots {
    slot_count: usize,
    shared: Mutex<SlotsState>,
    /// The notification that a leased message has begun to wait for a slot.
    message_waits: Notify,
}

#[derive(Default)]
struct SlotsState {
    used: usize,
    waiting: VecDeque<UnstartedMessage>,
    /// The number of handlers that have ended so far.
    ended_count: u64,
    /// The sum of the run times of all handlers that have ended so far.
    run_time: Duration,
}

/// The time after which a message whose handler has not started is returned to its queue.
const MAX_WAIT_FOR_SLOT: Duration = Duration::from_millis(100);

impl UnstartedMessage {
    fn has_waited_too_long(&self) -> bool {
        self.waits_since.elapsed() >= MAX_WAIT_FOR_SLOT
    }
}

impl SlotsState {
    /// Returns whether a message has waited too long for a slot, because handlers have become slow or the process was
    /// suspended.
    fn has_overdue_message(&self) -> bool {
        self.waiting.front().is_some_and(UnstartedMessage::has_waited_too_long)
    }
}

impl HandlerSlots {
    pub(crate) fn new(slot_count: usize) -> Arc<Self> {
        Arc::new(Self { slot_count, shared: Mutex::default(), message_waits: Notify::new() })
    }

    /// Adds leased messages. Returns the messages whose handlers start now, each with its slot; the other messages wait for a
    /// free slot.
    pub(crate) fn add(
        self: &Arc<Self>,
        leased: impl Iterator<Item = UnstartedMessage>,
    ) -> Vec<(Slot, UnstartedMessage)> {
        let mut state = self.shared.lock();
        state.waiting.extend(leased);
        let free_slots = if state.has_overdue_message() { 0 } else { self.slot_count.saturating_sub(state.used) };
        let start_count = free_slots.min(state.waiting.len());
        state.used += start_count;
        let add_slot = |message| (Slot { slots: Arc::clone(self), is_used: true }, message);
        let starting_messages = state.waiting.drain(..start_count).map(add_slot).collect();
        if !state.waiting.is_empty() {
            self.message_waits.notify_one();
        }
        starting_messages
    }

    /// Takes all leased messages that wait for a slot.
    pub(crate) fn take_waiting(&self) -> Vec<UnstartedMessage> {
        self.shared.lock().waiting.drain(..).collect()
    }

    /// Waits until a message has waited too long for a slot, and takes all waiting messages.
    pub(crate) async fn take_messages_when_overdue(&self) -> Vec<UnstartedMessage> {
        loop {
            let oldest_wait_start = self.shared.lock().waiting.front().map(|message| message.waits_since);
            let Some(oldest_wait_start) = oldest_wait_start else {
                self.message_waits.notified().await;
                continue;
            };
            sleep_until(oldest_wait_start + MAX_WAIT_FOR_SLOT).await;
            let mut state = self.shared.lock();
            if state.has_overdue_message() {
                return state.waiting.drain(..).collect();
            }
        }
    }

    /// Returns the number of handlers that have ended so far, and the sum of their run times.
    pub(crate) fn ended_count_and_run_time(&self) -> (u64, Duration) {
        let state = self.shared.lock();
        (state.ended_count, state.run_time)
    }
}

/// A handler slot that one task uses, which runs one handler after the other.
pub(crate) struct Slot {
    slots: Arc<HandlerSlots>,
    is_used: bool,
}

impl Slot {
    /// Records that a handler with this run time has ended, and returns the next message to run. The slot becomes free if no
    /// leased message waits for a slot, or if a leased message has waited too long.
    pub(crate) fn next_message(&mut self, run_time: Duration) -> Option<UnstartedMessage> {
        let mut state = self.slots.shared.lock();
        state.ended_count += 1;
        state.run_time += run_time;
        let next_message = if state.has_overdue_message() { None } else { state.waiting.pop_front() };
        if next_message.is_none() {
            state.used -= 1;
            self.is_used = false;
        }
        next_message
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_used {
            self.slots.shared.lock().used -= 1;
        }
    }
}
