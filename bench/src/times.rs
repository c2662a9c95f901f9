//! Collects measured times and calculates their percentiles.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Measured durations or delays, in milliseconds.
#[derive(Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn record(&mut self, duration: Duration) {
        self.record_millis(duration.as_secs_f64() * 1e3);
    }

    pub(crate) fn record_millis(&mut self, millis: f64) {
        self.0.push(millis);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Returns the given percentile of the measured times, in ms.
    pub(crate) fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let sample_index = self.0.len() * percent / 100;
        self.0.get(sample_index.min(self.0.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Returns the time of the wall clock: the milliseconds since 1970, with fractions.
pub(crate) fn wall_millis() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}
