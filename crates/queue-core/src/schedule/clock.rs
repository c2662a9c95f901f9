//! An estimate of Redis's clock, from the times in Redis's replies.

use tokio::time::Instant;

/// The largest difference (µs) between the estimate and Redis's clock that counts as drift; a larger difference counts as a step of a
/// clock.
const STEP_US: i64 = 20_000;

/// An estimate of the time of one server of Redis. The estimate lags behind by at most the time that the fastest reply took, and
/// never runs ahead, unless Redis's clock steps back.
#[derive(Debug)]
pub(crate) struct ServerClock {
    start: Instant,
    /// Redis's time minus the local time since `start`, in µs; `None` before the first reply.
    offset: Option<i64>,
}

impl ServerClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), offset: None }
    }

    /// Updates the estimate by the time in a reply, which Redis read between `sent` and `received`. Returns whether Redis's clock
    /// or the local clock has stepped.
    pub(crate) fn observe(&mut self, sent: Instant, received: Instant, redis_us: u64) -> bool {
        let redis_us = i64::try_from(redis_us).unwrap_or(i64::MAX);
        let (least, most) = (redis_us - self.local_us(received), redis_us - self.local_us(sent));
        let offset_before = self.offset.unwrap_or(least);
        // If the offset is less than `least` or more than `most`, a clock has drifted or stepped.
        self.offset = Some(if (least..=most).contains(&offset_before) { offset_before } else { least });
        offset_before < least - STEP_US || offset_before > most + STEP_US
    }

    /// Returns Redis's time now, in µs; 0 before the first reply.
    pub(crate) fn now_us(&self) -> u64 {
        let now = self.offset.map_or(0, |offset| self.local_us(Instant::now()) + offset);
        u64::try_from(now).unwrap_or(0)
    }

    fn local_us(&self, instant: Instant) -> i64 {
        i64::try_from(instant.saturating_duration_since(self.start).as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn estimate_of_redis_clock_follows_steps_and_drift_and_is_never_ahead() {
        let (mut clock, start) = (ServerClock::new(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        // The first reply takes 10 ms, and Redis read its clock at an unknown time in these 10 ms.
        assert!(!clock.observe(at(0), at(10), 1_000_000));
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(clock.now_us(), 1_000_000);
        // The second reply is faster, and shows that Redis's clock is ahead of the estimate.
        assert!(!clock.observe(at(20), at(22), 1_018_000));
        tokio::time::advance(Duration::from_millis(12)).await;
        assert_eq!(clock.now_us(), 1_018_000);
        // The third reply is slower than the second reply, and does not change the estimate.
        assert!(!clock.observe(at(30), at(60), 1_040_000));
        tokio::time::advance(Duration::from_millis(38)).await;
        assert_eq!(clock.now_us(), 1_056_000);
        for step in [4_600_000_000, 500_000] {
            assert!(clock.observe(at(60), at(60), step));
            assert_eq!(clock.now_us(), step, "Redis's clock has stepped");
        }
    }
}
