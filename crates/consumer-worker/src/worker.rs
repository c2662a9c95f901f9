//! A worker: it starts and ends the lines of its queues, in a thread of its own.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Instant,
};

use queue_core::{ConsumerId, Error, QueueName, Queues, Redis, Subscriber};
use service::Stop;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinSet,
};
use tracing::{debug, error, info, warn};

use crate::{
    Routes, WorkerMetrics, config,
    crew::Crew,
    line::{Life, Line, LineEnd},
    places::Places,
    routes::Table,
    settler,
};

/// A worker: one driver for each queue that its routes name, and for each that fits a pattern of theirs while it exists.
///
/// Handlers run on the runtime that calls [`run`](Self::run). All else (fetching, settling, extending, the subscription)
/// runs in one thread of its own, with connections of its own: handlers that block their threads delay each other, but no
/// lease lapses by it.
pub struct Worker {
    /// Where the queues are.
    pub queues: Queues,
    /// The subscription that wakes it, made by [`Routes::subscriber`]. The worker runs it.
    pub subscriber: Subscriber,
    /// Who gets which message.
    pub routes: Routes,
    /// Who this worker is.
    pub consumer: ConsumerId,
    /// Its limits and pauses. Its routes do not count.
    pub config: config::Worker,
    /// Where it counts what it does.
    pub metrics: WorkerMetrics,
}

/// Why a worker could not work.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its routes make no sense.
    #[error("{0}")]
    Routes(String),
    /// Its thread could not be started.
    #[error("the worker's thread can't be started: {0}")]
    Thread(#[from] io::Error),
    /// Its thread broke: a mistake of Drover's.
    #[error("the worker's thread broke")]
    Broken,
    /// A queue can't be worked on.
    #[error(transparent)]
    Queue(#[from] Error),
}

impl Worker {
    /// Works until it is told to stop; then leases nothing more, lets handlers end for the grace, and releases the rest.
    /// Told to stop at once, it releases all that is not done, as far as Redis answers within a moment.
    ///
    /// # Errors
    ///
    /// [`WorkerError::Routes`]; [`Error::OtherLayout`]: one of the queues was laid out by a newer Drover. The others were
    /// stopped as usual.
    pub async fn run(self, stop: Stop) -> Result<(), WorkerError> {
        let handlers = Handle::current();
        let (ended, end) = oneshot::channel();
        // If this future is dropped, the thread ends all the same.
        let stop = Stop { gracefully: stop.gracefully.child_token(), at_once: stop.at_once.child_token() };
        let _guards = (stop.gracefully.clone().drop_guard(), stop.at_once.clone().drop_guard());
        thread::Builder::new().name("drover-worker".into()).spawn(move || {
            let result = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(self.work(handlers, stop)),
                Err(error) => Err(error.into()),
            };
            // Nobody may be left to hear it.
            let _ = ended.send(result);
        })?;
        end.await.unwrap_or(Err(WorkerError::Broken))
    }

    async fn work(self, handlers: Handle, stop: Stop) -> Result<(), WorkerError> {
        let table = self.routes.into_table();
        if let Some(mistake) = table.mistakes.first() {
            return Err(WorkerError::Routes(mistake.clone()));
        }
        let begun = Instant::now();
        let starts = table.starts();
        let queues =
            self.queues.over(self.queues.redis().apart().map_err(|error| Error::Unexpected(error.to_string()))?);
        let crew = Arc::new(Crew {
            consumer: self.consumer,
            subscriber: self.subscriber.clone(),
            heartbeat: crate::heartbeat::Heartbeat::default(),
            places: Places::new(self.config.max_leases, self.config.max_bytes, self.config.order),
            handlers,
            queues_of_handlers: self.queues,
            config: self.config,
            stop,
            redis_is_away: service::Outage::reported_once(),
            lines: 0.into(),
            workers: 1.into(),
        });
        let looks = crew.look_at_the_index(&queues, &starts);
        let looks = async { if starts.is_empty() { std::future::pending().await } else { looks.await } };
        let lines = Lines {
            crew: Arc::clone(&crew),
            queues: queues.clone(),
            table,
            metrics: self.metrics.clone(),
            running: JoinSet::new(),
            names: HashSet::new(),
        };
        // The subscription and the heartbeat outlive the work: what is still at work while stopping is seen to too.
        let result = tokio::select! {
            result = lines.run() => result,
            () = self.subscriber.keep() => unreachable!("it has no end"),
            () = crew.heartbeat.run() => unreachable!("it has no end"),
            () = looks => unreachable!("they have no end"),
            () = crew.count_workers(&queues) => unreachable!("it has no end"),
            () = crew.see_to_names(&queues) => unreachable!("it has no end"),
        };
        settler::summarize(&self.metrics, begun.elapsed());
        Ok(result?)
    }
}

/// The lines of a worker: which queues are served.
struct Lines {
    crew: Arc<Crew>,
    queues: Queues,
    table: Table,
    metrics: WorkerMetrics,
    running: JoinSet<(QueueName, Result<LineEnd, Error>)>,
    names: HashSet<QueueName>,
}

impl Lines {
    async fn run(mut self) -> Result<(), Error> {
        for name in self.table.queues() {
            self.start(name, Life::Always);
        }
        let mut result = Ok(());
        let crew = Arc::clone(&self.crew);
        loop {
            tokio::select! {
                biased;
                () = crew.stop.gracefully.cancelled() => break,
                Some(ended) = self.running.join_next() => if let Err(error) = self.note_end(ended) {
                    result = Err(error);
                    crew.stop.gracefully.cancel();
                    break;
                },
                name = crew.subscriber.new_queue() => self.start(name, Life::WhileItExists),
            }
        }
        while let Some(ended) = self.running.join_next().await {
            result = result.and(self.note_end(ended));
        }
        result
    }

    fn start(&mut self, name: QueueName, life: Life) {
        if self.names.contains(&name) {
            return;
        }
        let Some(routes) = self.table.of(&name) else { return };
        let metrics = Arc::new(self.metrics.of_pattern(routes.pattern.as_str()));
        let driver = Line::new(Arc::clone(&self.crew), self.queues.queue(&name), routes, metrics, life);
        self.crew.lines.fetch_add(1, Ordering::Relaxed);
        self.names.insert(name.clone());
        self.running.spawn(async move { (name, driver.run().await) });
    }

    fn note_end(
        &mut self,
        ended: Result<(QueueName, Result<LineEnd, Error>), tokio::task::JoinError>,
    ) -> Result<(), Error> {
        self.crew.lines.fetch_sub(1, Ordering::Relaxed);
        match ended {
            Ok((name, end)) => {
                self.names.remove(&name);
                // If it is there again by now, it is a newcomer.
                self.crew.subscriber.forget(&name);
                if end? == LineEnd::QueueIsGone {
                    debug!(queue = %name, "the queue is gone");
                }
            }
            Err(error) => error!(%error, "a queue's driver broke"),
        }
        Ok(())
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// The subscription that a worker with these routes needs.
    pub fn subscriber(&self, redis: Redis) -> Subscriber {
        Subscriber::of_prefixes(redis, self.table().starts())
    }
}

/// Says at the start what is served.
pub(crate) fn tell_start(routes: &Routes, consumer: &ConsumerId, concurrency: usize) {
    let (queues, patterns) = (routes.table().queues().len(), routes.table().starts().len());
    info!(%consumer, queues, patterns, concurrency, "working");
    if queues == 0 && patterns == 0 && routes.table().mistakes.is_empty() {
        warn!("there is no route, so there is nothing to do: write [[worker.routes]], or Routes::route in a program");
    }
}
