//! Leasing ahead: how many messages a runner leases beyond its free handler slots, so that short handlers need not wait for Redis.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::handler_slots::HandlerSlots;

/// Decides how many messages may be leased ahead: as many as handlers ended in the last 10 ms, so that a message that is leased
/// ahead starts within about 10 ms. While handlers take 25 ms or more on average, no message is leased ahead.
#[derive(Default)]
pub(crate) struct LeaseAhead {
    /// The samples of the last [`SAMPLE_WINDOW`](Self::SAMPLE_WINDOW): an instant, the number of handlers that had ended by
    /// that instant, and the sum of their run times.
    samples: VecDeque<(Instant, u64, Duration)>,
}

impl LeaseAhead {
    const SAMPLE_WINDOW: Duration = Duration::from_millis(10);
    const MAX_MEAN_RUN_TIME: Duration = Duration::from_millis(25);
    /// The minimum time between two samples of the ended handlers, which limits the number of samples.
    const MIN_SAMPLE_GAP: Duration = Duration::from_micros(500);

    /// Returns the number of messages that the runner may lease now beyond its free handler slots.
    pub(crate) fn max_messages(&mut self, slots: &HandlerSlots) -> usize {
        let (ended_count, run_time) = slots.ended_count_and_run_time();
        self.max_messages_at_instant(Instant::now(), ended_count, run_time)
    }

    fn max_messages_at_instant(&mut self, now: Instant, ended_count: u64, run_time: Duration) -> usize {
        while self.samples.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) > Self::SAMPLE_WINDOW) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(at, ..)| now.saturating_duration_since(*at) >= Self::MIN_SAMPLE_GAP) {
            self.samples.push_back((now, ended_count, run_time));
        }
        let Some((_, ended_before, run_time_before)) = self.samples.front() else { return 0 };
        let recently_ended_count = u32::try_from(ended_count - ended_before).unwrap_or(u32::MAX);
        if recently_ended_count == 0
            || run_time.saturating_sub(*run_time_before) / recently_ended_count >= Self::MAX_MEAN_RUN_TIME
        {
            return 0;
        }
        recently_ended_count as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn as_many_messages_are_leased_ahead_as_handlers_ended_in_the_last_ten_milliseconds() {
        let (start, mut lease_ahead) = (Instant::now(), LeaseAhead::default());
        assert_eq!(lease_ahead.max_messages_at_instant(start, 0, ms(0)), 0);
        assert_eq!(lease_ahead.max_messages_at_instant(start + ms(4), 40, ms(40)), 40);
        assert_eq!(lease_ahead.max_messages_at_instant(start + ms(8), 90, ms(90)), 90);
        assert_eq!(
            lease_ahead.max_messages_at_instant(start + ms(12), 120, ms(120)),
            80,
            "the sample of 0 ms is too old"
        );
        assert_eq!(lease_ahead.max_messages_at_instant(start + ms(500), 120, ms(120)), 0, "no handler ended recently");
    }

    #[test]
    fn no_message_is_leased_ahead_while_handlers_take_long() {
        let (start, mut lease_ahead) = (Instant::now(), LeaseAhead::default());
        lease_ahead.max_messages_at_instant(start, 0, ms(0));
        assert_eq!(lease_ahead.max_messages_at_instant(start + ms(9), 10, ms(249)), 10);
        assert_eq!(lease_ahead.max_messages_at_instant(start + ms(10), 10, ms(250)), 0);
    }
}
