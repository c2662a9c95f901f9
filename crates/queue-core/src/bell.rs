//! The bell of one queue: it rings when a consumer of this process should look, because of a notification or of an instant.

use std::{collections::HashSet, mem, sync::OnceLock, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{ConsumerId, MessageId};

/// What a queue tells its idle consumers, as it stands in the notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring<'p> {
    /// Look then.
    In(Duration),
    /// Look now, if you are this one: nobody else has access.
    For(&'p str),
    /// Whoever works on this message: it is to be cancelled.
    Cancel(&'p str),
}

impl<'p> Ring<'p> {
    /// What can't be read says: look.
    pub(crate) fn parse(payload: &'p str) -> Self {
        match payload.split_once('\t') {
            Some(("cancel", id)) => Self::Cancel(id),
            Some((_, consumer)) => Self::For(consumer),
            None => Self::In(Duration::from_micros(u64::try_from(payload.parse().unwrap_or(0_i64)).unwrap_or(0))),
        }
    }
}

/// Rings when a consumer of one queue should look; remembers the earliest instant at which it should.
#[derive(Debug)]
pub struct Bell {
    look_at: Mutex<Option<Instant>>,
    changed: Notify,
    /// Whom it rings for alone; for everybody in this process if nobody has said so.
    consumer: OnceLock<ConsumerId>,
    to_cancel: Mutex<HashSet<MessageId>>,
    told_to_cancel: Notify,
}

impl Bell {
    /// How many messages to cancel it remembers; the heartbeat of the leases tells of the others.
    const MAX_TO_CANCEL: usize = 10_000;

    pub(crate) fn new() -> Self {
        Self {
            look_at: Mutex::new(Some(Instant::now())),
            changed: Notify::new(),
            consumer: OnceLock::new(),
            to_cancel: Mutex::default(),
            told_to_cancel: Notify::new(),
        }
    }

    /// Says that only this consumer listens to it, so that it is not rung for others.
    pub fn serve(&self, consumer: &ConsumerId) {
        // The first one stays.
        let _ = self.consumer.set(consumer.clone());
    }

    pub(crate) fn take(&self, ring: Ring<'_>) {
        match ring {
            Ring::In(pause) => self.ring_in(pause),
            Ring::For(consumer) if self.consumer.get().is_some_and(|own| own.as_str() != consumer) => {}
            Ring::For(_) => self.ring(),
            Ring::Cancel(id) => {
                let mut to_cancel = self.to_cancel.lock();
                if let Ok(id) = id.parse()
                    && to_cancel.len() < Self::MAX_TO_CANCEL
                {
                    to_cancel.insert(id);
                    self.told_to_cancel.notify_one();
                }
            }
        }
    }

    /// Waits until messages are to be cancelled, and answers which. Safe to give up half-way.
    pub async fn told_to_cancel(&self) -> HashSet<MessageId> {
        loop {
            let told = mem::take(&mut *self.to_cancel.lock());
            if !told.is_empty() {
                return told;
            }
            self.told_to_cancel.notified().await;
        }
    }

    /// Look now.
    pub fn ring(&self) {
        self.ring_in(Duration::ZERO);
    }

    /// Look then, or earlier.
    pub fn ring_in(&self, pause: Duration) {
        let Some(instant) = Instant::now().checked_add(pause) else { return };
        let mut look_at = self.look_at.lock();
        if look_at.is_none_or(|known| instant < known) {
            *look_at = Some(instant);
            // A permit is kept for a listener that does not wait yet: nothing is lost between its look and its wait.
            self.changed.notify_one();
        }
    }

    /// Whether it is time to look, or will be at an instant that is known.
    pub(crate) fn has_rung(&self) -> bool {
        self.look_at.lock().is_some()
    }

    /// Waits until it is time to look, at the latest after `poll`. Then the bell is silent until it rings again: what
    /// rings during the look counts for the next wait. One listener a bell.
    pub async fn time_to_look(&self, poll: Duration) {
        let latest = Instant::now() + poll;
        loop {
            let instant = self.look_at.lock().map_or(latest, |instant| instant.min(latest));
            // A timer for what is due already would ring with the next whole millisecond.
            if instant <= Instant::now() {
                self.look_at.lock().take_if(|due| *due <= Instant::now());
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
    async fn a_bell_rings_at_the_earliest_instant_that_it_was_told() {
        let bell = Bell::new();
        let hour = Duration::from_secs(3_600);
        bell.time_to_look(hour).await; // A new bell says: look.
        let start = Instant::now();
        bell.ring_in(Duration::from_secs(9));
        bell.ring_in(Duration::from_secs(5));
        bell.ring_in(Duration::from_secs(7));
        bell.time_to_look(hour).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        bell.time_to_look(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 65, "silent again: only the poll is left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_ring_during_the_look_is_not_lost() {
        let bell = Bell::new();
        bell.time_to_look(Duration::from_secs(1)).await;
        bell.ring();
        let start = Instant::now();
        bell.time_to_look(Duration::from_secs(3_600)).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_is_looked_at_without_waiting_for_the_next_millisecond() {
        let bell = Bell::new();
        tokio::time::advance(Duration::from_micros(300)).await;
        let start = Instant::now();
        bell.ring();
        bell.time_to_look(Duration::from_secs(3_600)).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_rung_for_its_own_consumer_and_for_all() {
        let bell = Bell::new();
        let (mine, other) = (ConsumerId::issue(), ConsumerId::issue());
        bell.serve(&mine);
        let looks = async |payload: &str| {
            bell.time_to_look(Duration::ZERO).await;
            bell.take(Ring::parse(payload));
            let start = Instant::now();
            bell.time_to_look(Duration::from_secs(60)).await;
            start.elapsed() < Duration::from_secs(1)
        };
        assert!(looks("0").await);
        assert!(looks("-5").await, "an instant that has passed is now");
        assert!(looks(&format!("0\t{mine}")).await);
        assert!(!looks(&format!("0\t{other}")).await);
        assert!(!looks("60000000").await);
        assert!(!looks("cancel\t21718923400017").await);
        assert_eq!(bell.told_to_cancel().await, HashSet::from(["21718923400017".parse().unwrap()]));
    }
}
