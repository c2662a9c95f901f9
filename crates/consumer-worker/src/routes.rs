//! All routes of a worker, and which of them has the messages of a queue.

use std::{collections::HashSet, error::Error, num::NonZeroU32};

use parking_lot::Mutex;
use queue_core::{MessageName, QueueName, QueuePattern};
use tower::{Layer, Service};

use crate::{Endpoint, IntoOutcome, IntoRoute, Job, Outcome, config, handlers, run};

/// Which handler gets which messages: by queue, and within it by name; the first that fits.
///
/// ```
/// use consumer_worker::{HandlerError, Payload, Routes, on};
///
/// async fn welcome(Payload(to): Payload<String>) -> Result<String, HandlerError> {
///     Ok(format!("welcomed {to}"))
/// }
/// async fn count(Payload(numbers): Payload<Vec<u64>>) -> Result<u64, HandlerError> {
///     Ok(numbers.iter().sum())
/// }
///
/// let routes = Routes::new()
///     .route("mails", on("welcome", welcome)) // messages of one name
///     .route("user-*", count); // all messages of each queue whose name begins so
/// # let _ = routes;
/// ```
#[derive(Clone)]
pub struct Routes<S = ()> {
    state: S,
    table: Table,
}

/// The routes, whatever state they were made with.
#[derive(Clone, Default)]
pub(crate) struct Table {
    pub(crate) routes: Vec<Entry>,
    /// What is wrong, told when the worker starts.
    pub(crate) mistakes: Vec<String>,
}

/// What is done with the messages of the queues that fit a pattern.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) pattern: QueuePattern,
    arms: Vec<(Option<MessageName>, Endpoint)>,
    concurrency: Option<usize>,
    weight: Option<NonZeroU32>,
}

/// The routes of one queue.
pub(crate) struct QueueRoutes {
    arms: Vec<(Option<MessageName>, Endpoint)>,
    /// The place of the first route that fits, among all.
    pub(crate) rank: usize,
    /// The pattern of the first route that fits, by which the queue is counted.
    pub(crate) pattern: QueuePattern,
    pub(crate) concurrency: Option<usize>,
    pub(crate) weight: NonZeroU32,
    /// The names that no route takes, as far as they were told.
    told: Mutex<HashSet<String>>,
}

impl Table {
    /// Adds a route; one whose messages an earlier route of the same queue has is a mistake.
    fn add(&mut self, route: Entry) {
        let earlier = self.routes.iter().filter(|earlier| earlier.pattern == route.pattern);
        let mut taken: HashSet<_> = earlier.flat_map(|earlier| &earlier.arms).map(|(name, _)| name.clone()).collect();
        for (name, _) in &route.arms {
            if !taken.insert(name.clone()) {
                let of = name.as_ref().map_or("all messages".to_owned(), |name| format!("messages named \"{name}\""));
                let mistake = format!("the queue {} has two handlers for {of}: remove one of them", route.pattern);
                self.mistakes.push(mistake);
            }
        }
        self.routes.push(route);
    }
}

impl Routes {
    /// None yet, and no state.
    pub fn new() -> Self {
        Self::with_state(())
    }

    /// Those of a configuration.
    pub fn from_config(routes: &[config::Route]) -> Self {
        let mut all = Self::new();
        for (n, route) in routes.iter().enumerate() {
            match handlers::from_config(&route.handler) {
                Ok(endpoint) => all.table.add(Entry {
                    pattern: route.queue.clone(),
                    arms: vec![(route.name.clone(), endpoint)],
                    concurrency: route.concurrency,
                    weight: route.weight,
                }),
                Err(error) => all.table.mistakes.push(format!("worker.routes[{n}].handler: {error}")),
            }
        }
        all
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet. Handlers get a clone of the state, or of a part of it, as [`State`](crate::State).
    pub fn with_state(state: S) -> Self {
        Self { state, table: Table::default() }
    }

    /// Messages of this queue, or of each queue that fits the pattern (`user-*`, or `*` for all), go to this handler, or
    /// [by their names](crate::on) to several. Of several routes that fit a queue the first has its messages, unless it has
    /// no handler for their names.
    ///
    /// A pattern that is none is told when the worker starts.
    #[must_use]
    pub fn route<A>(mut self, queue: &str, route: impl IntoRoute<S, A>) -> Self {
        let mut route = route.into_route();
        let mut arms = Vec::new();
        for (name, endpoint) in route.arms.drain(..) {
            match name {
                Ok(name) => arms.push((name, endpoint(&self.state))),
                Err(mistake) => self.table.mistakes.push(mistake),
            }
        }
        if route.concurrency == Some(0) || route.weight == Some(0) {
            self.table.mistakes.push(format!("the route of {queue}: concurrency and weight must be 1 or more"));
        }
        match queue.parse() {
            Ok(pattern) => self.table.add(Entry {
                pattern,
                arms,
                concurrency: route.concurrency,
                weight: route.weight.and_then(NonZeroU32::new),
            }),
            Err(mistake) => self.table.mistakes.push(format!("the route of {queue:?}: {mistake}")),
        }
        self
    }

    /// Puts a layer around every handler so far, one that shares what it shares. What is added later goes around what was
    /// added before.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Endpoint>,
        L::Service: Service<Job, Response: IntoOutcome, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>,
        L::Service: Clone + Send + Sync + 'static,
    {
        for (_, endpoint) in self.table.routes.iter_mut().flat_map(|route| &mut route.arms) {
            *endpoint = endpoint.clone().layer(&layer);
        }
        self
    }

    /// Runs the handler of one message as the worker would, with its layers and its time-out, but without Redis and
    /// without a lease: for tests, with a [`TestJob`](crate::TestJob).
    pub async fn handle(&self, job: Job) -> Outcome {
        let routes = self.table.of(job.queue());
        run::run(routes.as_ref(), &job).await.outcome
    }

    /// The same, once no more handlers that want the state are added.
    #[must_use]
    pub fn without_state(self) -> Routes {
        Routes { state: (), table: self.table }
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn into_table(self) -> Table {
        self.table
    }
}

impl Table {
    /// The routes of one queue, if there are any.
    pub(crate) fn of(&self, queue: &QueueName) -> Option<QueueRoutes> {
        let fitting = || self.routes.iter().filter(|route| route.pattern.fits(queue.as_str()));
        let rank = self.routes.iter().position(|route| route.pattern.fits(queue.as_str()))?;
        Some(QueueRoutes {
            rank,
            pattern: self.routes[rank].pattern.clone(),
            arms: fitting().flat_map(|route| route.arms.iter().cloned()).collect(),
            concurrency: fitting().find_map(|route| route.concurrency),
            weight: fitting().find_map(|route| route.weight).unwrap_or(NonZeroU32::MIN),
            told: Mutex::default(),
        })
    }

    /// What the names of queues begin with that fit a pattern.
    pub(crate) fn starts(&self) -> Vec<String> {
        self.routes.iter().filter_map(|route| route.pattern.start().map(str::to_owned)).collect()
    }

    /// The queues that are named, each once, in the order of the routes.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        let mut queues: Vec<QueueName> = Vec::new();
        for queue in self.routes.iter().filter_map(|route| route.pattern.queue()) {
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        queues
    }
}

impl QueueRoutes {
    /// How many names without a route are told; producers may make up any number.
    const MAX_TOLD: usize = 1_000;

    /// Whether it is told for the first time that no route takes this name.
    pub(crate) fn is_told_first(&self, name: &str) -> bool {
        let mut told = self.told.lock();
        told.len() < Self::MAX_TOLD && told.insert(name.to_owned())
    }

    pub(crate) fn endpoint(&self, name: Option<&MessageName>) -> Option<&Endpoint> {
        let fits = |of: &Option<MessageName>| of.as_ref().is_none_or(|of| Some(of) == name);
        self.arms.iter().find(|(of, _)| fits(of)).map(|(_, endpoint)| endpoint)
    }
}
