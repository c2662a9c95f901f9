use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use queue_core::{Action, Histogram, Message, QueueName, Settled, State};
use service::metrics::{Kind, Page};
use tokio::sync::Semaphore;

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

/// What a worker counts, by queue: only those that its routes name.
#[derive(Clone, Default)]
pub struct WorkerMetrics {
    queues: Arc<BTreeMap<QueueName, Arc<QueueMetrics>>>,
}

/// What a worker counts of one queue. Each of it is an atomic addition.
pub(crate) struct QueueMetrics {
    start_delays: Histogram,
    runs: Histogram,
    outcomes: [AtomicU64; Ended::ALL.len()],
    /// The places for leases, and how many there are.
    places: OnceLock<(Arc<Semaphore>, usize)>,
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
    const ALL: [Self; 6] = [Self::Completed, Self::Retried, Self::Failed, Self::Released, Self::Lost, Self::Unsettled];

    fn as_str(self) -> &'static str {
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
    pub fn of(routes: &Routes) -> Self {
        let queues = routes.queues().into_iter().map(|name| (name, Arc::default())).collect();
        Self { queues: Arc::new(queues) }
    }

    /// Those of a queue; of one that the routes do not name they are shown nowhere.
    pub(crate) fn queue(&self, name: &QueueName) -> Arc<QueueMetrics> {
        self.queues.get(name).cloned().unwrap_or_default()
    }

    /// Writes them down.
    pub fn write(&self, page: &mut Page) {
        let queues = || self.queues.iter().map(|(name, queue)| (name.as_str(), queue));
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
        let places = || queues().filter_map(|(name, queue)| Some((name, queue.places.get()?)));
        let mut family = page.family("drover_worker_leases", Kind::Gauge, "Leases that this worker holds.");
        for (name, (free, all)) in places() {
            family.sample(&[("queue", name)], all.saturating_sub(free.available_permits()));
        }
        let mut family = page.family("drover_worker_concurrency", Kind::Gauge, "Leases that it may hold at once.");
        for (name, (_, all)) in places() {
            family.sample(&[("queue", name)], all);
        }
    }
}

impl Default for QueueMetrics {
    fn default() -> Self {
        Self {
            start_delays: Histogram::new(BOUNDS),
            runs: Histogram::new(BOUNDS),
            outcomes: Default::default(),
            places: OnceLock::new(),
        }
    }
}

impl QueueMetrics {
    /// Shows how many of these places are taken.
    pub(crate) fn watch(&self, places: &Arc<Semaphore>, concurrency: usize) {
        // A queue has one driver.
        let _ = self.places.set((Arc::clone(places), concurrency));
    }

    /// A message was handed out. Only the first time is a wait for a worker: a retry waits for its back-off, and what
    /// was held for its signal.
    pub(crate) fn note_start(&self, message: &Message) {
        if let (1, None, Some(started_at)) = (message.deliveries, &message.hold, message.started_at) {
            let waited = started_at.as_millis().saturating_sub(message.due_at.as_millis());
            self.start_delays.observe(Duration::from_millis(waited));
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
