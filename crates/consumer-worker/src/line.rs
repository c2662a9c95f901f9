//! The work of one process on one queue: it fetches messages and runs their handlers.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use queue_core::{Delivery, Error, LeaseRequest, Queue, WakeNotifier};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    Job,
    crew::Crew,
    heartbeat::Charge,
    held::{Held, HeldLease, bytes_of},
    metrics::{Ended, QueueMetrics},
    places::Account,
    routes::QueueRoutes,
    run::{self, Standing},
    settler::{self, Ending, Settler, Work},
    trouble::LineTrouble,
};

/// How long handlers that are dropped may take to notice. One that blocks its thread does not.
const TIME_TO_DROP: Duration = Duration::from_millis(200);

/// So many messages are worth a call: beside what they cost, what every call costs is not much.
const A_FEW: usize = 25;

/// The work of one process on one queue: the one driver that fetches, and the tasks that it owns.
///
/// An idle one is this task and its bell. What it needs to work it has only from the first lease until it finds nothing.
pub(crate) struct Line {
    crew: Arc<Crew>,
    bell: Arc<WakeNotifier>,
    routes: Arc<QueueRoutes>,
    metrics: Arc<QueueMetrics>,
    concurrency: usize,
    charge: Arc<Charge>,
    life: Life,
}

/// How long a line lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// A route names the queue: where there is none, the line waits until one begins.
    Always,
    /// The queue fits a pattern: the line ends when it is deleted.
    WhileItExists,
}

/// How a line ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineEnd {
    /// The worker stops.
    Stopped,
    /// The queue was deleted.
    QueueIsGone,
}

/// What a line needs while it holds leases.
struct Desk {
    shift: Arc<Shift>,
    settling: JoinHandle<()>,
    no_more: CancellationToken,
    jobs: TaskTracker,
}

impl Line {
    pub(crate) fn new(
        crew: Arc<Crew>,
        queue: Arc<Queue>,
        routes: QueueRoutes,
        metrics: Arc<QueueMetrics>,
        life: Life,
    ) -> Self {
        let bell = crew.subscriber.notifier(queue.name());
        bell.wake_only(&crew.consumer);
        let held = Held::new(Arc::clone(&crew.places), Arc::clone(&metrics));
        let concurrency = routes.concurrency.unwrap_or(crew.config.concurrency);
        Self { crew, bell, routes: Arc::new(routes), metrics, concurrency, charge: Charge::new(queue, held), life }
    }

    /// How many messages one call leases at most: a third of what may be held, so that Redis hands one third out and takes
    /// another back while the handlers work on the last. Fewer than a few are not worth a call of their own.
    fn at_once(&self) -> usize {
        (self.concurrency / 3).clamp(A_FEW, Queue::MAX_MESSAGES)
    }

    fn queue(&self) -> &Arc<Queue> {
        &self.charge.queue
    }

    fn held(&self) -> &Arc<Held> {
        &self.charge.held
    }

    /// Fetches and runs messages until the worker stops or the queue is gone, then stops as a worker should: handlers may
    /// end within the grace, what has not ended is released with no attempt spent.
    ///
    /// Errs when the queue was laid out by a newer Drover: this one can do nothing there.
    pub(crate) async fn run(self) -> Result<LineEnd, Error> {
        self.metrics.begin_queue(self.concurrency);
        let result = tokio::select! {
            result = self.work() => result,
            () = self.pass_on_cancels() => unreachable!("it has no end"),
        };
        self.metrics.end_queue(self.concurrency);
        result
    }

    async fn pass_on_cancels(&self) {
        loop {
            let ids = self.bell.cancelled().await;
            self.held().cancel(|lease| ids.contains(lease.id()));
            // One that is leased but not held yet is told by the next beat.
            self.crew.heartbeat.look_soon(self.queue().name());
        }
    }

    async fn work(&self) -> Result<LineEnd, Error> {
        let mut desk = None;
        let result = self.fetch(&mut desk).await;
        // Of a lease call whose answer was lost. If Redis is away they lapse.
        let _ = self.queue().return_lost_leases().await;
        if let Some(desk) = desk {
            self.close(desk).await;
        }
        // So that another consumer need not wait for the end of this one's time. If Redis is away, it waits.
        if result.as_ref().is_ok_and(|end| *end == LineEnd::Stopped) {
            let _ = self.queue().give_up_ownership(&self.crew.consumer).await;
        }
        result
    }

    async fn fetch(&self, desk: &mut Option<Desk>) -> Result<LineEnd, Error> {
        let stop = &self.crew.stop.gracefully;
        let mut account = Account::new(self.routes.rank, self.routes.weight);
        let mut trouble = LineTrouble::default();
        loop {
            // Nothing is given up half-way but the waiting: a lease call under way is always heard to its end.
            let grant = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(LineEnd::Stopped),
                grant = async {
                    self.bell.woken(self.crew.poll_interval()).await;
                    let room = self.held().room(self.concurrency).await;
                    self.crew.places.take(&mut account, room.min(self.at_once())).await
                } => grant,
            };
            let request = LeaseRequest::new(self.crew.consumer.clone(), grant.leases);
            match self.queue().lease(&request).await {
                Ok(leased) => {
                    trouble.is_over(&self.crew, self.queue());
                    // When a permit is free if there may be more, else when something is known to come.
                    if leased.more_is_ready || leased.deliveries.len() >= grant.leases {
                        self.bell.wake();
                    }
                    if let Some(pause) = leased.next_look {
                        self.bell.wake_in(pause);
                    }
                    if leased.deliveries.is_empty() {
                        drop(grant);
                        if self.held().count() == 0
                            && let Some(desk) = desk.take()
                        {
                            self.close(desk).await;
                        }
                        continue;
                    }
                    grant.keep(&mut account, leased.deliveries.len(), leased.deliveries.iter().map(bytes_of).sum());
                    let held = self.held().hold(leased.deliveries, leased.visibility_timeout.to_std());
                    self.crew.heartbeat.watch(&self.charge, leased.visibility_timeout);
                    desk.get_or_insert_with(|| self.open()).run(held, &self.crew);
                }
                Err(error @ Error::OtherLayout { .. }) => return Err(error),
                Err(Error::NoSuchQueue) => {
                    drop(grant);
                    trouble.is_over(&self.crew, self.queue());
                    // What still runs has lost its lease: the beat finds that.
                    self.crew.heartbeat.look_soon(self.queue().name());
                    if self.life == Life::WhileItExists {
                        return Ok(LineEnd::QueueIsGone);
                    }
                }
                Err(error) => {
                    drop(grant);
                    trouble.goes_on(&self.crew, self.queue(), &error);
                    self.bell.wake();
                    tokio::select! {
                        () = sleep(trouble.retry.pause()) => {}
                        () = stop.cancelled() => return Ok(LineEnd::Stopped),
                    }
                }
            }
        }
    }

    fn open(&self) -> Desk {
        // As many endings as leases can be held: sending one never waits long.
        let (endings, to_settle) = mpsc::channel(self.concurrency);
        let no_more = CancellationToken::new();
        let settler = Settler {
            queue: Arc::clone(self.queue()),
            metrics: Arc::clone(&self.metrics),
            no_more: no_more.clone(),
            stop: self.crew.stop.clone(),
        };
        let shift = Shift {
            queue: self.crew.queues_of_handlers.queue(self.queue().name()),
            routes: Arc::clone(&self.routes),
            metrics: Arc::clone(&self.metrics),
            endings,
            out_of_time: CancellationToken::new(),
            unfinished: Mutex::default(),
        };
        Desk {
            shift: Arc::new(shift),
            settling: tokio::spawn(settler.run(to_settle)),
            no_more,
            jobs: TaskTracker::new(),
        }
    }

    /// Waits for the handlers, for the grace at most, then releases what has not ended.
    async fn close(&self, desk: Desk) {
        let Desk { shift, settling, no_more, jobs } = desk;
        let queue = self.queue();
        jobs.close();
        let is_graceful = tokio::select! {
            ended = timeout(self.crew.config.shutdown_grace.to_std(), jobs.wait()) => ended.is_ok(),
            () = self.crew.stop.at_once.cancelled() => false,
        };
        if !is_graceful {
            shift.out_of_time.cancel();
            let blocked = timeout(TIME_TO_DROP, jobs.wait()).await.is_err();
            let leases = self.held().running();
            info!(queue = %queue.name(), messages = leases.len(), "the time is over: what still runs is released");
            if blocked {
                warn!(queue = %queue.name(), handlers = jobs.len(), "some handlers block their threads");
            }
            settler::release(queue, leases, &self.metrics, &self.crew.stop).await;
        }
        no_more.cancel();
        drop(shift);
        if let Err(error) = settling.await {
            error!(queue = %queue.name(), %error, "the settler broke");
        }
    }
}

impl Desk {
    /// Runs the handlers of what was leased, on their own runtime: one task brings them there.
    fn run(&self, held: Vec<(Delivery, HeldLease)>, crew: &Crew) {
        let mut to_do: Vec<(Job, HeldLease)> = held
            .into_iter()
            .map(|(delivery, held)| {
                self.shift.metrics.note_start(&delivery);
                (Job::new(Arc::clone(&self.shift.queue), delivery, held.stopper.clone()), held)
            })
            .collect();
        if to_do.len() > 1 {
            let (jobs, shift) = (self.jobs.clone(), Arc::clone(&self.shift));
            let all = async move {
                for (job, held) in to_do {
                    drop(jobs.spawn(Arc::clone(&shift).work(job, held)));
                }
            };
            drop(self.jobs.spawn_on(all, &crew.handlers));
        } else if let Some((job, held)) = to_do.pop() {
            drop(self.jobs.spawn_on(Arc::clone(&self.shift).work(job, held), &crew.handlers));
        }
    }
}

/// What the handlers of a line share.
struct Shift {
    /// Over connections that are for handlers: what they do can't disturb the worker's own.
    queue: Arc<Queue>,
    routes: Arc<QueueRoutes>,
    metrics: Arc<QueueMetrics>,
    endings: mpsc::Sender<Ending>,
    out_of_time: CancellationToken,
    /// What was cut off. Held until all of it is released together, so that it keeps its order.
    unfinished: Mutex<Vec<HeldLease>>,
}

impl Shift {
    /// Works on one message, and says how its lease ends.
    async fn work(self: Arc<Self>, job: Job, held: HeldLease) {
        let ran = tokio::select! {
            ran = run::run(Some(&*self.routes), &job) => ran,
            () = self.out_of_time.cancelled() => {
                self.unfinished.lock().push(held);
                return;
            }
        };
        if let Some(took) = ran.took {
            self.metrics.note_run(took);
        }
        let work = Work { took: ran.took, job };
        if ran.lease == Standing::Lost {
            self.metrics.note_end(Ended::Lost);
            settler::tell(&work, None, Ended::Lost);
            return;
        }
        let action = ran.outcome.into_action(work.job.now());
        held.stopper.end();
        if let Err(mpsc::error::SendError(Ending { work, .. })) = self.endings.send(Ending { held, action, work }).await
        {
            self.metrics.note_end(Ended::Unsettled);
            settler::tell(&work, None, Ended::Unsettled);
        }
    }
}
