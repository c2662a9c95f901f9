//! Wake timers: the earliest instant at which each queue must be checked. The memory of the timers is proportional to the number of
//! queues.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::names::QueueName;

/// The earliest instant at which each queue must be checked.
#[derive(Debug, Default)]
pub struct WakeTimers {
    entries: Mutex<TimerEntries>,
    earlier: Notify,
}

/// The timers of all queues, by queue and by instant.
#[derive(Debug, Default)]
struct TimerEntries {
    instants: HashMap<QueueName, Instant>,
    /// All entries of timers, ordered by instant. An entry is valid if `instants` has the same instant for the queue; other entries
    /// are outdated.
    order: BinaryHeap<Reverse<(Instant, QueueName)>>,
}

impl TimerEntries {
    /// The number of outdated entries, besides one for each queue, that are kept before all outdated entries are removed together.
    const MAX_OUTDATED: usize = 1_000;

    /// Removes the outdated entries if there are many. If outdated entries were not removed, each check of a busy queue would leave one
    /// outdated entry, perhaps for days.
    fn drop_outdated(&mut self) {
        if self.order.len() > 2 * self.instants.len() + Self::MAX_OUTDATED {
            self.order = self.instants.iter().map(|(queue, instant)| Reverse((*instant, queue.clone()))).collect();
        }
    }
}

impl WakeTimers {
    /// Sets the timer of a queue, so that the queue is checked after `pause`, unless the timer is set to an earlier instant.
    pub fn set(&self, queue: QueueName, pause: Duration) {
        let Some(instant) = Instant::now().checked_add(pause) else { return };
        let mut entries = self.entries.lock();
        if entries.instants.get(&queue).is_some_and(|known| *known <= instant) {
            return;
        }
        entries.instants.insert(queue.clone(), instant);
        entries.order.push(Reverse((instant, queue)));
        entries.drop_outdated();
        self.earlier.notify_one();
    }

    /// Waits until a queue must be checked, and clears its timer. The returned future may be dropped at any time; only one task may
    /// wait at a time.
    pub async fn next(&self) -> QueueName {
        loop {
            let instant = match self.take_due() {
                Ok(queue) => return queue,
                Err(instant) => instant,
            };
            let earlier_timer = self.earlier.notified();
            match instant {
                Some(instant) => tokio::select! {
                    () = sleep_until(instant) => {}
                    () = earlier_timer => {}
                },
                None => earlier_timer.await,
            }
        }
    }

    /// Removes and returns a queue whose instant has passed. If no instant has passed, the error is the next instant.
    fn take_due(&self) -> Result<QueueName, Option<Instant>> {
        let mut entries = self.entries.lock();
        while let Some(Reverse((instant, queue))) = entries.order.peek() {
            if entries.instants.get(queue) != Some(instant) {
                entries.order.pop();
                continue;
            }
            if *instant > Instant::now() {
                return Err(Some(*instant));
            }
            let Some(Reverse((_, queue))) = entries.order.pop() else { break };
            entries.instants.remove(&queue);
            return Ok(queue);
        }
        Err(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timer_of_a_queue_fires_at_its_earliest_time() {
        let timers = WakeTimers::default();
        let name = |name: &str| name.parse::<QueueName>().unwrap();
        let start = Instant::now();
        for (queue, secs) in [("b", 5), ("a", 9), ("a", 3), ("a", 7)] {
            timers.set(name(queue), Duration::from_secs(secs));
        }
        assert_eq!((timers.next().await, start.elapsed().as_secs()), (name("a"), 3));
        timers.set(name("a"), Duration::from_secs(1));
        assert_eq!((timers.next().await, start.elapsed().as_secs()), (name("a"), 4));
        assert_eq!((timers.next().await, start.elapsed().as_secs()), (name("b"), 5));
        let later_timer = tokio::time::timeout(Duration::from_secs(60), timers.next());
        assert!(later_timer.await.is_err(), "each instant of a queue but the earliest is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_timers_of_a_queue_take_no_more_memory() {
        let timers = WakeTimers::default();
        let busy_queue: QueueName = "busy".parse().unwrap();
        for _ in 0..10_000 {
            timers.set(busy_queue.clone(), Duration::from_secs(86_400));
            timers.set(busy_queue.clone(), Duration::ZERO);
            assert_eq!(timers.next().await, busy_queue);
        }
        assert!(timers.entries.lock().order.len() <= TimerEntries::MAX_OUTDATED + 2);
        timers.set(busy_queue.clone(), Duration::from_secs(1));
        let start = Instant::now();
        assert_eq!((timers.next().await, start.elapsed().as_secs()), (busy_queue, 1));
    }
}
