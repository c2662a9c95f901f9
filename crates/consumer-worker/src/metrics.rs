use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use queue_core::{Action, Delivery, Histogram, Settled, State};
use service::metrics::{Kind, Page};

use crate::Routes;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// From a millisecond, which is what Redis's clock is read in, to a day.
const BOUNDS: &[Duration] = &[
    ms(1),
    Duration::from_micros(2_500),
    ms(5),
    ms(10),
    ms(25),
    ms(50),
    ms(100),
    ms(250),
    ms(500),
    ms(1_000),
    ms(2_500),
    ms(5_000),
    ms(10_000),
    ms(30_000),
    ms(60_000),
    ms(300_000),
    ms(1_800_000),
    ms(7_200_000),
    ms(86_400_000),
];

/// What a worker counts, by the queues and patterns that its routes name: queues that fit a pattern count together, or
/// producers could begin any number of series.
#[derive(Clone, Default)]
pub struct WorkerMetrics {
    queues: Arc<[(String, Arc<QueueMetrics>)]>,
}

/// What a worker counts of one queue, or of those that fit one pattern. Each of it is an atomic addition.
pub(crate) struct QueueMetrics {
    start_delays: Histogram,
    runs: Histogram,
    outcomes: [AtomicU64; Ended::ALL.len()],
    queues: AtomicUsize,
    leases: AtomicUsize,
    concurrency: AtomicUsize,
}

/// What came of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    pub(crate) const ALL: [Self; 6] =
        [Self::Completed, Self::Retried, Self::Failed, Self::Released, Self::Lost, Self::Unsettled];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Lost => "lost",
            Self::Unsettled => "unsettled",
        }
    }

    /// What came of it when it was settled so, and Redis answered that.
    pub(crate) fn of(action: &Action, settled: Settled) -> Self {
        match (settled, action) {
            (Settled::Gone, _) => Self::Lost,
            (Settled::Now(State::Completed), _) => Self::Completed,
            (Settled::Now(State::Failed), _) => Self::Failed,
            (Settled::Now(_), Action::Release(_)) => Self::Released,
            (Settled::Now(_), _) => Self::Retried,
        }
    }
}

impl WorkerMetrics {
    /// For the queues of these routes.
    pub fn of<S: Clone + Send + Sync + 'static>(routes: &Routes<S>) -> Self {
        let mut queues: Vec<(String, Arc<QueueMetrics>)> = Vec::new();
        for route in &routes.table().routes {
            let pattern = route.pattern.as_str();
            let of_pattern = queues.iter().find(|(known, _)| known == pattern).map(|(_, metrics)| Arc::clone(metrics));
            queues.push((pattern.to_owned(), of_pattern.unwrap_or_default()));
        }
        Self { queues: queues.into() }
    }

    /// Those of the queues whose first route this is.
    pub(crate) fn of_route(&self, rank: usize) -> Arc<QueueMetrics> {
        self.queues.get(rank).map(|(_, metrics)| Arc::clone(metrics)).unwrap_or_default()
    }

    /// Each pattern once.
    fn each(&self) -> impl Iterator<Item = (&str, &Arc<QueueMetrics>)> {
        let is_first = |n: usize, metrics| !self.queues[..n].iter().any(|(_, other)| Arc::ptr_eq(other, metrics));
        let each = self.queues.iter().enumerate().filter(move |(n, (_, metrics))| is_first(*n, metrics));
        each.map(|(_, (pattern, metrics))| (pattern.as_str(), metrics))
    }

    /// How often leases ended how, over all queues.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (Ended, u64)> {
        self.each().flat_map(|(_, queue)| {
            Ended::ALL.map(|ended| (ended, queue.outcomes[ended as usize].load(Ordering::Relaxed)))
        })
    }

    /// Writes them down.
    pub fn write(&self, page: &mut Page) {
        let queues = || self.each();
        let help = "From when a message was due until it was first handed to this worker.";
        let mut family = page.family("drover_worker_start_delay_seconds", Kind::Histogram, help);
        for (name, queue) in queues() {
            family.histogram(&[("queue", name)], &queue.start_delays);
        }
        let help = "How long handlers ran.";
        let mut family = page.family("drover_worker_handler_duration_seconds", Kind::Histogram, help);
        for (name, queue) in queues() {
            family.histogram(&[("queue", name)], &queue.runs);
        }
        let help = "Leases of this worker that ended, by what came of them.";
        let mut family = page.family("drover_worker_outcomes_total", Kind::Counter, help);
        for (name, queue) in queues() {
            for outcome in Ended::ALL {
                let count = queue.outcomes[outcome as usize].load(Ordering::Relaxed);
                family.sample(&[("queue", name), ("outcome", outcome.as_str())], count);
            }
        }
        let gauges: [Gauge; 3] = [
            ("drover_worker_queues", "Queues that are served.", |queue| &queue.queues),
            ("drover_worker_leases", "Leases that this worker holds.", |queue| &queue.leases),
            ("drover_worker_concurrency", "Leases that it may hold at once.", |queue| &queue.concurrency),
        ];
        for (name, help, gauge) in gauges {
            let mut family = page.family(name, Kind::Gauge, help);
            for (pattern, queue) in queues() {
                family.sample(&[("queue", pattern)], gauge(queue).load(Ordering::Relaxed));
            }
        }
    }
}

/// The name and the meaning of a gauge, and where it stands.
type Gauge = (&'static str, &'static str, fn(&QueueMetrics) -> &AtomicUsize);

impl Default for QueueMetrics {
    fn default() -> Self {
        Self {
            start_delays: Histogram::new(BOUNDS),
            runs: Histogram::new(BOUNDS),
            outcomes: Default::default(),
            queues: AtomicUsize::new(0),
            leases: AtomicUsize::new(0),
            concurrency: AtomicUsize::new(0),
        }
    }
}

impl QueueMetrics {
    /// A queue is served from now on, with so many places.
    pub(crate) fn begin_queue(&self, concurrency: usize) {
        self.queues.fetch_add(1, Ordering::Relaxed);
        self.concurrency.fetch_add(concurrency, Ordering::Relaxed);
    }

    /// It is served no longer.
    pub(crate) fn end_queue(&self, concurrency: usize) {
        self.queues.fetch_sub(1, Ordering::Relaxed);
        self.concurrency.fetch_sub(concurrency, Ordering::Relaxed);
    }

    /// So many more leases are held.
    pub(crate) fn note_leases(&self, count: usize) {
        self.leases.fetch_add(count, Ordering::Relaxed);
    }

    /// So many are held no longer.
    pub(crate) fn forget_leases(&self, count: usize) {
        self.leases.fetch_sub(count, Ordering::Relaxed);
    }

    /// A message was handed out: for the first time, how long after it became ready is observed.
    pub(crate) fn note_start(&self, delivery: &Delivery) {
        if let (1, Some(started_at)) = (delivery.message.deliveries, delivery.message.started_at) {
            self.start_delays.observe(started_at.since(delivery.ready_at).to_std());
        }
    }

    /// A handler has ended, or was stopped.
    pub(crate) fn note_run(&self, took: Duration) {
        self.runs.observe(took);
    }

    /// A lease has ended.
    pub(crate) fn note_end(&self, outcome: Ended) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}
