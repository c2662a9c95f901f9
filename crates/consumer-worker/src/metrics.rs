//! The metrics of a worker, by the queues and patterns that its routes name: queues that fit a pattern count together, or producers
//! could begin any number of series. Each line holds the figures of its queue, so that counting looks nothing up.

use std::{collections::BTreeSet, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use queue_core::{Action, Delivery, State};
use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::Routes;

/// In seconds: from a millisecond, which is what Redis's clock is read in, to a day.
const BOUNDS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0,
    86_400.0,
];

type Histograms = Family<OfQueue, Histogram, fn() -> Histogram>;

/// What a worker counts.
#[derive(Clone)]
pub struct WorkerMetrics {
    patterns: BTreeSet<String>,
    start_delays: Histograms,
    runs: Histograms,
    outcomes: Family<OfOutcome, Counter>,
    queues: Family<OfQueue, Gauge>,
    leases: Family<OfQueue, Gauge>,
    concurrency: Family<OfQueue, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQueue {
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    queue: String,
    outcome: &'static str,
}

/// What a worker counts of one queue, or of those that fit one pattern.
pub(crate) struct QueueMetrics {
    start_delays: Histogram,
    runs: Histogram,
    outcomes: [Counter; Ended::COUNT],
    queues: Gauge,
    leases: Gauge,
    concurrency: Gauge,
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum Ended {
    /// The message is completed.
    Completed,
    /// The attempt failed, and another follows.
    Retried,
    /// The message failed for good.
    Failed,
    /// It was given back with no attempt spent.
    Released,
    /// The lease was over before the worker was done: the message is somebody else's.
    Lost,
    /// Its end could not be recorded: it lapses.
    Unsettled,
}

impl Ended {
    /// How a lease ended that was settled so, and Redis answered that.
    pub(crate) fn of(action: &Action, settled: Option<State>) -> Self {
        match (settled, action) {
            (None, _) => Self::Lost,
            (Some(State::Completed), _) => Self::Completed,
            (Some(State::Failed), _) => Self::Failed,
            (Some(_), Action::Release(_)) => Self::Released,
            (Some(_), _) => Self::Retried,
        }
    }
}

impl WorkerMetrics {
    /// For the queues of these routes.
    pub fn of<S: Clone + Send + Sync + 'static>(routes: &Routes<S>) -> Self {
        let histograms = || Histograms::new_with_constructor(|| Histogram::new(BOUNDS));
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
            metrics.of_pattern(pattern);
        }
        metrics
    }

    /// Puts them on a metrics page.
    pub fn register(&self, registry: &mut Registry) {
        let help = "From when a message was due until it was first handed to this worker";
        registry.register("drover_worker_start_delay_seconds", help, self.start_delays.clone());
        registry.register("drover_worker_handler_duration_seconds", "How long handlers ran", self.runs.clone());
        let help = "Leases of this worker that ended, by what came of them";
        registry.register("drover_worker_outcomes", help, self.outcomes.clone());
        registry.register("drover_worker_queues", "Queues that are served", self.queues.clone());
        registry.register("drover_worker_leases", "Leases that this worker holds", self.leases.clone());
        let help = "Leases that it may hold at once";
        registry.register("drover_worker_concurrency", help, self.concurrency.clone());
    }

    /// Those of the queues whose first route has this pattern.
    pub(crate) fn of_pattern(&self, pattern: &str) -> QueueMetrics {
        let labels = OfQueue { queue: pattern.to_owned() };
        let outcomes = std::array::from_fn(|n| self.outcome(pattern, Ended::VARIANTS[n]));
        QueueMetrics {
            start_delays: self.start_delays.get_or_create_owned(&labels),
            runs: self.runs.get_or_create_owned(&labels),
            outcomes,
            queues: self.queues.get_or_create_owned(&labels),
            leases: self.leases.get_or_create_owned(&labels),
            concurrency: self.concurrency.get_or_create_owned(&labels),
        }
    }

    fn outcome(&self, pattern: &str, ended: Ended) -> Counter {
        self.outcomes.get_or_create_owned(&OfOutcome { queue: pattern.to_owned(), outcome: ended.into_str() })
    }

    /// How often leases ended so, over all queues.
    pub(crate) fn total(&self, ended: Ended) -> u64 {
        self.patterns.iter().map(|pattern| self.outcome(pattern, ended).get()).sum()
    }
}

/// A number of leases, as a gauge has it: there are never so many that it would not fit.
fn figure(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl QueueMetrics {
    /// A queue is served from now on, with so many places.
    pub(crate) fn begin_queue(&self, concurrency: usize) {
        self.queues.inc();
        self.concurrency.inc_by(figure(concurrency));
    }

    /// It is served no longer.
    pub(crate) fn end_queue(&self, concurrency: usize) {
        self.queues.dec();
        self.concurrency.dec_by(figure(concurrency));
    }

    /// So many more leases are held.
    pub(crate) fn note_leases(&self, count: usize) {
        self.leases.inc_by(figure(count));
    }

    /// So many are held no longer.
    pub(crate) fn forget_leases(&self, count: usize) {
        self.leases.dec_by(figure(count));
    }

    /// A message was handed out: for the first time, how long after it became ready is observed.
    pub(crate) fn note_start(&self, delivery: &Delivery) {
        if let (1, Some(started_at)) = (delivery.message.deliveries, delivery.message.started_at) {
            self.start_delays.observe(started_at.since(delivery.ready_at).to_std().as_secs_f64());
        }
    }

    /// A handler has ended, or was stopped.
    pub(crate) fn note_run(&self, took: Duration) {
        self.runs.observe(took.as_secs_f64());
    }

    /// A lease has ended.
    pub(crate) fn note_end(&self, outcome: Ended) {
        self.outcomes[outcome as usize].inc();
    }
}
