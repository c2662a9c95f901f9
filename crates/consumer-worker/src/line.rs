use std::{sync::Arc, time::Duration};

use queue_core::{
    Bell, ConsumerId, Delivery, Error, LeaseRequest, Leased, MAX_MESSAGES_PER_CALL, Queue, Retry, Settings, Stay,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    Job, Outcome, heartbeat,
    held::{Held, HeldLease},
    metrics::{Ended, QueueMetrics},
    routes::QueueRoutes,
    run::{self, Ran, Standing},
    settler::{self, Ending},
};

/// How long what is left is tried to be settled when the worker has stopped and Redis does not answer.
const LAST_SETTLES: Duration = Duration::from_secs(5);

/// The work of one process on one queue: the one driver that fetches, and the tasks that it owns.
pub(crate) struct Line {
    pub(crate) queue: Arc<Queue>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) routes: Arc<QueueRoutes>,
    pub(crate) consumer: ConsumerId,
    pub(crate) concurrency: usize,
    pub(crate) poll_interval: Duration,
    pub(crate) shutdown_grace: Duration,
    pub(crate) metrics: Arc<QueueMetrics>,
}

impl Line {
    /// Fetches and runs messages until `shutdown`, then stops as a worker should: handlers may end within the grace,
    /// what has not ended is released with no attempt spent.
    ///
    /// Errs when the queue was laid out by a newer Drover: this one can do nothing there.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let places = Arc::new(Semaphore::new(self.concurrency));
        self.metrics.watch(&places, self.concurrency);
        let held = Held::default();
        // As many endings as leases can be held: sending one never waits long.
        let (endings, to_settle) = mpsc::channel(self.concurrency);
        let (visibility_timeout, followed) = watch::channel(Settings::default().visibility_timeout);
        let settling =
            tokio::spawn(settler::settle(Arc::clone(&self.queue), to_settle, Arc::clone(&self.metrics), LAST_SETTLES));
        let beating =
            tokio::spawn(heartbeat::beat(Arc::clone(&self.queue), Arc::clone(&self.bell), held.clone(), followed));
        let mut jobs = JoinSet::new();
        let out_of_time = CancellationToken::new();

        let mut outage = Outage::default();
        let result = loop {
            // Nothing is given up half-way but the waiting: a lease call under way is always heard to its end.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                () = self.time_to_fetch(&places) => {}
            }
            while jobs.try_join_next().is_some() {}
            let free = places.available_permits();
            let request = LeaseRequest {
                consumer: self.consumer.clone(),
                max: free,
                visibility_timeout: None,
                stay: Stay::default(),
            };
            match self.queue.lease(&request).await {
                Ok(leased) => {
                    outage.is_over(&self.queue);
                    self.look_again(&leased, free);
                    visibility_timeout.send_if_modified(|known| {
                        std::mem::replace(known, leased.visibility_timeout) != leased.visibility_timeout
                    });
                    for delivery in leased.deliveries {
                        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                            unreachable!("only this driver takes places, and it leased no more than were free")
                        };
                        self.metrics.note_start(&delivery.message);
                        let lease = held.hold(delivery.lease.clone(), place);
                        jobs.spawn(self.job(delivery, lease, endings.clone(), out_of_time.clone()));
                    }
                }
                Err(error @ Error::NewerLayout { .. }) => break Err(error),
                Err(error) => {
                    outage.goes_on(&self.queue, &error);
                    self.bell.ring();
                    tokio::select! {
                        () = sleep(outage.retry.pause()) => {}
                        () = shutdown.cancelled() => break Ok(()),
                    }
                }
            }
        };
        // Of a lease call whose answer was lost. If Redis is away they lapse.
        let _ = self.queue.give_back_lost_leases().await;

        let ended = async { while jobs.join_next().await.is_some() {} };
        if timeout(self.shutdown_grace, ended).await.is_err() {
            info!(queue = %self.queue.name(), messages = jobs.len(), "the grace is over: what still runs is released");
            out_of_time.cancel();
            while jobs.join_next().await.is_some() {}
        }
        drop(endings);
        drop(visibility_timeout);
        for task in [settling, beating] {
            if let Err(error) = task.await {
                error!(queue = %self.queue.name(), %error, "a task of the queue broke");
            }
        }
        // So that another consumer need not wait for the end of this one's time. If Redis is away, it waits.
        let _ = self.queue.give_up(&self.consumer).await;
        result
    }

    /// Waits until it is time to look and at least one place is free.
    async fn time_to_fetch(&self, places: &Semaphore) {
        // Spread, so that the polls of many queues do not come all at once.
        let poll = self.poll_interval.mul_f64(rand::random_range(0.75..=1.0));
        self.bell.time_to_look(poll).await;
        // Taken only to wait for it. The semaphore is never closed.
        drop(places.acquire().await);
    }

    /// Notes when to look next: when a place is free if there may be more, else when something is known to come.
    fn look_again(&self, leased: &Leased, asked_for: usize) {
        if leased.more_is_ready || leased.deliveries.len() >= asked_for.min(MAX_MESSAGES_PER_CALL) {
            self.bell.ring();
        }
        if let Some(pause) = leased.next_look {
            self.bell.ring_in(pause);
        }
    }

    fn job(
        &self,
        delivery: Delivery,
        held: HeldLease,
        endings: mpsc::Sender<Ending>,
        out_of_time: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (routes, metrics) = (Arc::clone(&self.routes), Arc::clone(&self.metrics));
        let job = Job::new(Arc::clone(&self.queue), delivery, held.stopper.clone());
        async move {
            let ran = tokio::select! {
                ran = run::run(Some(&*routes), &job) => ran,
                () = out_of_time.cancelled() => Ran { outcome: Outcome::Release(None), took: None, lease: Standing::Held },
            };
            if let Some(took) = ran.took {
                metrics.note_run(took);
            }
            if ran.lease == Standing::Lost {
                metrics.note_end(Ended::Lost);
                return;
            }
            let action = ran.outcome.into_action(job.now());
            if endings.send(Ending { held, action }).await.is_err() {
                warn!(queue = %job.queue(), "the settler is gone: this lease will lapse");
                metrics.note_end(Ended::Unsettled);
            }
        }
    }
}

/// Tells an outage of Redis once, not with each try.
#[derive(Default)]
struct Outage {
    retry: Retry,
    told: bool,
}

impl Outage {
    fn goes_on(&mut self, queue: &Queue, error: &queue_core::Error) {
        if !self.told {
            warn!(queue = %queue.name(), %error, "can't lease, trying on");
            self.told = true;
        }
    }

    fn is_over(&mut self, queue: &Queue) {
        if self.told {
            info!(queue = %queue.name(), "leasing again");
        }
        *self = Self::default();
    }
}
