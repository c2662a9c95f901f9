//! Metrics of the ticks that one process posts.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// The bounds of the histogram's buckets, in seconds.
const BUCKET_BOUNDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 10.0, 60.0];

/// The ticks that this process posted, left out, or could not post.
#[derive(Debug)]
pub struct TickMetrics {
    lateness: Histogram,
    ticks: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Default for TickMetrics {
    fn default() -> Self {
        Self { lateness: Histogram::new(BUCKET_BOUNDS), ticks: Family::default() }
    }
}

impl TickMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time from a tick of a schedule to its post by this process";
        registry.register("drover_schedule_lateness_seconds", help, self.lateness.clone());
        let help = "Ticks of schedules that this process posted, left out because of an unfinished message, or could not post because the queue is full";
        registry.register("drover_schedule_ticks", help, self.ticks.clone());
        for outcome in ["posted", "left_out", "refused"] {
            drop(self.ticks.get_or_create(&[("outcome", outcome)]));
        }
    }

    pub(crate) fn count(&self, outcome: &'static str, ticks: usize) {
        if ticks > 0 {
            self.ticks.get_or_create(&[("outcome", outcome)]).inc_by(ticks as u64);
        }
    }

    pub(crate) fn observe_lateness(&self, seconds: f64) {
        self.lateness.observe(seconds);
    }
}
