use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How often something took how long. Observing is two atomic additions: no lock, no allocation.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for what is beyond all of them.
    counts: Box<[AtomicU64]>,
    /// In µs: in ns a million waits of a day would be too many.
    sum: AtomicU64,
}

impl Histogram {
    /// With these upper bounds, in ascending order.
    pub fn new(bounds: &'static [Duration]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < took);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let rounded = took.saturating_add(Duration::from_nanos(500));
        self.sum.fetch_add(u64::try_from(rounded.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether anything was counted yet.
    pub fn was_observed(&self) -> bool {
        self.counts.iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    /// Each bound, and how many took no longer than that.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut so_far = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            so_far += count.load(Ordering::Relaxed);
            (*bound, so_far)
        })
    }

    /// How many took longer than the last bound.
    pub fn beyond(&self) -> u64 {
        self.counts.last().map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_buckets_add_up() {
        const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10)];
        let histogram = Histogram::new(BOUNDS);
        for micros in [0, 999, 1_000, 1_001, 10_000, 10_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(BOUNDS[0], 3), (BOUNDS[1], 5)]);
        assert_eq!((histogram.beyond(), histogram.sum()), (1, Duration::from_micros(23_001)));
    }
}
