use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long things took, or how late they were.
#[derive(Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn note(&mut self, took: Duration) {
        self.note_millis(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn note_millis(&mut self, millis: f64) {
        self.0.push(millis);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The time, in ms, within which so many of a hundred were.
    pub(crate) fn percentile(&mut self, of_hundred: usize) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let place = self.0.len() * of_hundred / 100;
        self.0.get(place.min(self.0.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Milliseconds since 1970, with fractions.
pub(crate) fn wall_millis() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}
