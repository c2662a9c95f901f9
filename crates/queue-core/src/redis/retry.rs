//! The pauses of a loop after errors.

use std::time::Duration;

/// The pauses before a loop tries again after an error of Redis: from 50 ms, doubled each time, up to 500 ms, with a jitter of a
/// half. The pauses between two tries are so short that all work continues within 2 s after Redis is back.
#[derive(Debug)]
pub struct Retry {
    next: Duration,
}

impl Retry {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    /// The longest pause: 500 ms.
    pub const LONGEST_PAUSE: Duration = Duration::from_millis(500);

    /// Returns a sequence of pauses that begins with the shortest pause.
    pub fn new() -> Self {
        Self { next: Self::FIRST_PAUSE }
    }

    /// Returns the next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(Self::LONGEST_PAUSE);
        pause
    }

    /// Begins with the shortest pause again, after a success.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_pauses_grow_to_a_maximum_and_restart_after_a_success() {
        let mut retry = Retry::new();
        assert!(retry.pause() <= Retry::FIRST_PAUSE);
        for _ in 0..10 {
            assert!(retry.pause() <= Duration::from_millis(500), "no pause is longer than 500 ms");
        }
        assert!(retry.pause() >= Retry::LONGEST_PAUSE / 2);
        retry.reset();
        assert!(retry.pause() <= Retry::FIRST_PAUSE);
    }
}
