//! The wake notifier of one queue, which wakes the consumer of this process when the consumer should check the queue: when a
//! notification arrives, or when an instant that was set has come.

use std::{collections::HashSet, mem, sync::OnceLock, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{message::MessageId, names::ConsumerId};

/// A notification for the consumers of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake<'p> {
    /// All consumers should check the queue when this duration has passed since the notification, for example because a message is
    /// due then.
    In(Duration),
    /// Only the consumer with this id should check the queue now, because no other consumer has access to this exclusive queue.
    For(&'p str),
    /// The consumer that works on this message should cancel the message.
    Cancel(&'p str),
    /// Processes that post the ticks of schedules should read this schedule again.
    Schedule(&'p str),
}

impl<'p> Wake<'p> {
    /// Parses a payload; an invalid payload wakes all consumers at once.
    pub(crate) fn parse(payload: &'p str) -> Self {
        match payload.split_once('\t') {
            Some(("cancel", id)) => Self::Cancel(id),
            Some(("schedule", name)) => Self::Schedule(name),
            Some((_, consumer)) => Self::For(consumer),
            None => Self::In(Duration::from_micros(u64::try_from(payload.parse().unwrap_or(0_i64)).unwrap_or(0))),
        }
    }
}

/// Wakes the consumer of one queue when the consumer should check the queue. Of all instants at which the consumer should check the
/// queue, the notifier keeps only the earliest.
#[derive(Debug)]
pub struct WakeNotifier {
    check_at: Mutex<Option<Instant>>,
    changed: Notify,
    /// The consumer whose wake-ups the notifier accepts; if none is set, the notifier accepts the wake-ups of every consumer.
    consumer: OnceLock<ConsumerId>,
    to_cancel: Mutex<HashSet<MessageId>>,
    cancel_requested: Notify,
}

impl WakeNotifier {
    /// The maximum number of messages to cancel that the notifier keeps. If more messages must be cancelled, a worker learns of the
    /// rest when it extends their leases.
    const MAX_MESSAGES_TO_CANCEL: usize = 10_000;

    pub(crate) fn new() -> Self {
        Self {
            check_at: Mutex::new(Some(Instant::now())),
            changed: Notify::new(),
            consumer: OnceLock::new(),
            to_cancel: Mutex::default(),
            cancel_requested: Notify::new(),
        }
    }

    /// Makes this notifier ignore wake-ups for other consumers.
    pub fn wake_only(&self, consumer: &ConsumerId) {
        // If `wake_only` was called before, the consumer of the first call stays.
        let _ = self.consumer.set(consumer.clone());
    }

    pub(crate) fn receive(&self, wake: Wake<'_>) {
        match wake {
            Wake::In(pause) => self.wake_in(pause),
            Wake::For(consumer) if self.consumer.get().is_some_and(|own| own.as_str() != consumer) => {}
            Wake::For(_) => self.wake(),
            Wake::Schedule(_) => {}
            Wake::Cancel(id) => {
                let mut ids_to_cancel = self.to_cancel.lock();
                if let Ok(id) = id.parse()
                    && ids_to_cancel.len() < Self::MAX_MESSAGES_TO_CANCEL
                {
                    ids_to_cancel.insert(id);
                    self.cancel_requested.notify_one();
                }
            }
        }
    }

    /// Waits until messages must be cancelled, and returns their ids. The returned future may be dropped at any time.
    pub async fn cancelled(&self) -> HashSet<MessageId> {
        loop {
            let cancelled_ids = mem::take(&mut *self.to_cancel.lock());
            if !cancelled_ids.is_empty() {
                return cancelled_ids;
            }
            self.cancel_requested.notified().await;
        }
    }

    /// Wakes the notifier's consumer now.
    pub fn wake(&self) {
        self.wake_in(Duration::ZERO);
    }

    /// Wakes the consumer of the queue after `pause`, or earlier if an earlier wake-up is pending.
    pub fn wake_in(&self, pause: Duration) {
        let Some(instant) = Instant::now().checked_add(pause) else { return };
        let mut check_at = self.check_at.lock();
        if check_at.is_none_or(|known| instant < known) {
            *check_at = Some(instant);
            // `Notify` keeps a permit for a task that does not wait yet, so no wake-up is lost between the task's lease call
            // and its wait.
            self.changed.notify_one();
        }
    }

    /// Whether a wake-up of the consumer is pending, now or at a later instant.
    pub(crate) fn is_set(&self) -> bool {
        self.check_at.lock().is_some()
    }

    /// Waits for the next wake-up, for at most `poll`. A wake-up that arrives between two waits ends the next wait at once. Only
    /// one task may wait at a time.
    pub async fn woken(&self, poll: Duration) {
        let latest_wake = Instant::now() + poll;
        loop {
            let instant = self.check_at.lock().map_or(latest_wake, |instant| instant.min(latest_wake));
            // A timer for an instant in the past would fire only at the next whole millisecond.
            if instant <= Instant::now() {
                self.check_at.lock().take_if(|due| *due <= Instant::now());
                return;
            }
            tokio::select! {
                () = sleep_until(instant) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn notifier_wakes_at_the_earliest_instant_that_was_set() {
        let notifier = WakeNotifier::new();
        let one_hour = Duration::from_secs(3_600);
        // A new notifier wakes its consumer at once.
        notifier.woken(one_hour).await;
        let start = Instant::now();
        notifier.wake_in(Duration::from_secs(9));
        notifier.wake_in(Duration::from_secs(5));
        notifier.wake_in(Duration::from_secs(7));
        notifier.woken(one_hour).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        notifier.woken(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 65, "nothing is set any more: only the poll is left");
    }

    #[tokio::test(start_paused = true)]
    async fn wake_up_while_the_consumer_leases_is_not_lost() {
        let notifier = WakeNotifier::new();
        notifier.woken(Duration::from_secs(1)).await;
        notifier.wake();
        let start = Instant::now();
        notifier.woken(Duration::from_secs(3_600)).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn due_wake_up_does_not_wait_for_the_next_millisecond() {
        let notifier = WakeNotifier::new();
        tokio::time::advance(Duration::from_micros(300)).await;
        let start = Instant::now();
        notifier.wake();
        notifier.woken(Duration::from_secs(3_600)).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn notifier_wakes_its_own_consumer_only() {
        let notifier = WakeNotifier::new();
        let (mine, other) = (ConsumerId::issue(), ConsumerId::issue());
        notifier.wake_only(&mine);
        let is_woken_by = async |payload: &str| {
            notifier.woken(Duration::ZERO).await;
            notifier.receive(Wake::parse(payload));
            let start = Instant::now();
            notifier.woken(Duration::from_secs(60)).await;
            start.elapsed() < Duration::from_secs(1)
        };
        assert!(is_woken_by("0").await);
        assert!(is_woken_by("-5").await, "an instant that has passed is now");
        assert!(is_woken_by(&format!("0\t{mine}")).await);
        assert!(!is_woken_by(&format!("0\t{other}")).await);
        assert!(!is_woken_by("60000000").await);
        assert!(!is_woken_by("schedule\treport").await);
        assert!(!is_woken_by("cancel\t21718923400017").await);
        assert_eq!(notifier.cancelled().await, HashSet::from(["21718923400017".parse().unwrap()]));
    }
}
