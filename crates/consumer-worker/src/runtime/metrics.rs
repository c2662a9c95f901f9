//! The metrics of a worker, by the queues and patterns that the worker's routes name. All queues of a pattern share one series,
//! because producers can create any number of queues. Each runner has references to the counters of its queue, so that counting
//! needs no look-up.

use std::collections::BTreeSet;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use queue_core::{Action, Message, State, Timestamp};
use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::routing::Routes;

/// The upper bounds of the histograms' buckets, in seconds: from 1 ms, the precision with which Drover reads Redis's clock, to
/// a day.
const BUCKET_BOUNDS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0,
    86_400.0,
];

type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// The metrics of a worker.
#[derive(Clone)]
pub struct WorkerMetrics {
    patterns: BTreeSet<String>,
    start_delays: Histograms,
    runs: Histograms,
    outcomes: Family<Labels<2>, Counter>,
    queues: Family<Labels<1>, Gauge>,
    leases: Family<Labels<1>, Gauge>,
    concurrency: Family<Labels<1>, Gauge>,
}

/// The labels of a series, as names with values: the queue or pattern, and for `outcomes` also the outcome.
type Labels<const LABEL_COUNT: usize> = [(&'static str, String); LABEL_COUNT];

/// The metrics of one queue, or of all queues of one pattern.
pub(crate) struct QueueMetrics {
    start_delays: Histogram,
    pub(crate) runs: Histogram,
    outcomes: [Counter; LeaseOutcome::COUNT],
    pub(crate) queues: Gauge,
    pub(crate) leases: Gauge,
    pub(crate) concurrency: Gauge,
}

/// The way in which a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum LeaseOutcome {
    /// The handler has completed the message.
    Completed,
    /// The attempt failed, and another attempt follows.
    Retried,
    /// The message failed for good.
    Failed,
    /// The message was released with no attempt spent.
    Released,
    /// The lease was over before the worker settled it, because the lease lapsed or the queue was deleted.
    Lost,
    /// The worker could not settle the lease, which will lapse.
    Unsettled,
}

impl LeaseOutcome {
    /// Returns the outcome of a lease, from the action that settled the lease and the new state of the message (`None` if the
    /// lease was over).
    pub(crate) fn from_action(action: &Action, settled: Option<State>) -> Self {
        match (settled, action) {
            (None, _) => Self::Lost,
            (Some(State::Completed), _) => Self::Completed,
            (Some(State::Failed), _) => Self::Failed,
            (Some(_), Action::Release(_) | Action::Hold(_)) => Self::Released,
            (Some(_), _) => Self::Retried,
        }
    }
}

impl WorkerMetrics {
    /// Creates the metrics for the queues and patterns of these routes.
    pub fn for_routes<S: Clone + Send + Sync + 'static>(routes: &Routes<S>) -> Self {
        let histograms = || Histograms::new_with_constructor(|| Histogram::new(BUCKET_BOUNDS));
        let metrics = Self {
            patterns: routes.table().routes.iter().map(|route| route.pattern.as_str().to_owned()).collect(),
            start_delays: histograms(),
            runs: histograms(),
            outcomes: Family::default(),
            queues: Family::default(),
            leases: Family::default(),
            concurrency: Family::default(),
        };
        for pattern in &metrics.patterns {
            metrics.metrics_of_pattern(pattern);
        }
        metrics
    }

    /// Adds the metrics to a registry, whose metrics are served at `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time from when a message became ready until its first delivery to this worker";
        registry.register("drover_worker_start_delay_seconds", help, self.start_delays.clone());
        registry.register("drover_worker_handler_duration_seconds", "Run time of handlers", self.runs.clone());
        let help = "Ended leases, by outcome";
        registry.register("drover_worker_outcomes", help, self.outcomes.clone());
        registry.register("drover_worker_queues", "Queues that are served", self.queues.clone());
        registry.register("drover_worker_leases", "Leases that this worker holds", self.leases.clone());
        let help = "Maximum number of handlers that run at once";
        registry.register("drover_worker_concurrency", help, self.concurrency.clone());
    }

    /// Returns the metrics of the queues whose first matching route has this pattern.
    pub(crate) fn metrics_of_pattern(&self, pattern: &str) -> QueueMetrics {
        let labels = [("queue", pattern.to_owned())];
        let outcomes = std::array::from_fn(|n| self.outcome_counter(pattern, LeaseOutcome::VARIANTS[n]));
        QueueMetrics {
            start_delays: self.start_delays.get_or_create_owned(&labels),
            runs: self.runs.get_or_create_owned(&labels),
            outcomes,
            queues: self.queues.get_or_create_owned(&labels),
            leases: self.leases.get_or_create_owned(&labels),
            concurrency: self.concurrency.get_or_create_owned(&labels),
        }
    }

    fn outcome_counter(&self, pattern: &str, outcome: LeaseOutcome) -> Counter {
        let outcome = outcome.into_str().to_owned();
        self.outcomes.get_or_create_owned(&[("queue", pattern.to_owned()), ("outcome", outcome)])
    }

    /// Returns the number of leases with this outcome, over all queues.
    pub(crate) fn total_of_outcome(&self, outcome: LeaseOutcome) -> u64 {
        self.patterns.iter().map(|pattern| self.outcome_counter(pattern, outcome).get()).sum()
    }
}

/// Converts a number of leases to the value of a gauge.
pub(crate) fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl QueueMetrics {
    /// Records the start delay of a message that is delivered for the first time.
    pub(crate) fn record_start(&self, message: &Message, ready_at: Timestamp) {
        if let (1, Some(started_at)) = (message.deliveries, message.started_at) {
            self.start_delays.observe(started_at.since(ready_at).to_std().as_secs_f64());
        }
    }

    /// Counts an ended lease by its outcome.
    pub(crate) fn record_end(&self, outcome: LeaseOutcome) {
        self.outcomes[outcome as usize].inc();
    }
}
