//! The routes of a worker: which handler gets the messages of which queue or pattern, by the names of messages.

use std::{collections::HashSet, error::Error, marker::PhantomData, num::NonZeroU32};

use parking_lot::Mutex;
use queue_core::{MessageName, QueueName, QueuePattern};
use tower::{Layer, Service};

use super::{Endpoint, IntoEndpoint, IntoOutcome};
use crate::job::Job;

/// The handlers of the messages of a queue, by their names, and how many of them run at once.
///
/// Made by [`on`] or [`any`], for [`Routes::route`].
pub struct Route<S> {
    handlers: Vec<NamedHandler<S>>,
    concurrency: Option<usize>,
    weight: Option<u32>,
}

/// A handler for one name or, without a name, for all names; it is built when the state is known. Holds the error of an invalid
/// name.
type NamedHandler<S> = (Result<Option<MessageName>, String>, Box<dyn FnOnce(&S) -> Endpoint + Send>);

/// Routes the messages of this name to this handler.
pub fn on<S, A>(name: &str, handler: impl IntoEndpoint<S, A> + Send + 'static) -> Route<S> {
    Route::default().on(name, handler)
}

/// Routes all messages to this handler.
pub fn any<S, A>(handler: impl IntoEndpoint<S, A> + Send + 'static) -> Route<S> {
    Route::default().fallback(handler)
}

impl<S> Default for Route<S> {
    fn default() -> Self {
        Self { handlers: Vec::new(), concurrency: None, weight: None }
    }
}

impl<S> Route<S> {
    /// Routes the messages of this name to this handler.
    #[must_use]
    pub fn on<A>(mut self, name: &str, handler: impl IntoEndpoint<S, A> + Send + 'static) -> Self {
        let name = name.parse().map(Some).map_err(|error| format!("the name {name:?} of a route: {error}"));
        self.handlers.push((name, Box::new(|state| handler.into_endpoint(state))));
        self
    }

    /// Gives messages of every other name, and those without one, to this handler. Without a fallback they fail, with
    /// retries: another worker may have a route for them.
    #[must_use]
    pub fn fallback<A>(mut self, handler: impl IntoEndpoint<S, A> + Send + 'static) -> Self {
        self.handlers.push((Ok(None), Box::new(|state| handler.into_endpoint(state))));
        self
    }

    /// Handlers that run at once in this process, for each queue of the route. Defaults to `worker.concurrency`.
    #[must_use]
    pub fn concurrency(self, handlers: usize) -> Self {
        Self { concurrency: Some(handlers), ..self }
    }

    /// The share of each queue of the route where several queues have more messages than the process may have leases
    /// (`worker.max_leases`): so many messages for each one of a queue of weight 1. Defaults to 1.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        Self { weight: Some(weight), ..self }
    }
}

/// A type that [`Routes::route`] takes for a queue: a [`Route`], or a handler for all messages.
pub trait IntoRoute<S, A> {
    /// The route.
    fn into_route(self) -> Route<S>;
}

/// Marks a [`Route`].
pub struct ByName;

impl<S> IntoRoute<S, ByName> for Route<S> {
    fn into_route(self) -> Route<S> {
        self
    }
}

/// Marks a handler for all messages.
pub struct Whole<A>(PhantomData<A>);

impl<S, A, H: IntoEndpoint<S, A> + Send + 'static> IntoRoute<S, Whole<A>> for H {
    fn into_route(self) -> Route<S> {
        any(self)
    }
}

/// The handlers of a worker: by queue, and within it by the names of messages. The first route that fits gets a message.
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

impl Routes {
    /// No routes yet, and no state.
    pub fn new() -> Self {
        Self::with_state(())
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet. Handlers get a clone of the state, or of a part of it, as [`State`](crate::State).
    pub fn with_state(state: S) -> Self {
        Self { state, table: Table::default() }
    }

    /// Gives messages of this queue, or of each queue that fits the pattern (`user-*`, or `*` for all), to this handler, or
    /// [by their names](crate::on) to several. Of several routes that fit a queue the first one gets its messages, unless it
    /// has no handler for their names.
    ///
    /// The worker reports an invalid name or pattern when it starts.
    #[must_use]
    pub fn route<A>(mut self, queue: &str, route: impl IntoRoute<S, A>) -> Self {
        let route = route.into_route();
        let mut handlers = Vec::new();
        for (name, endpoint) in route.handlers {
            match name {
                Ok(name) => handlers.push((name, endpoint(&self.state))),
                Err(mistake) => self.table.mistakes.push(mistake),
            }
        }
        if route.concurrency == Some(0) || route.weight == Some(0) {
            self.table.mistakes.push(format!("the route of {queue}: concurrency and weight must be 1 or more"));
        }
        match queue.parse() {
            Ok(pattern) => {
                let weight = route.weight.and_then(NonZeroU32::new);
                self.table.add(Entry { pattern, handlers, concurrency: route.concurrency, weight });
            }
            Err(mistake) => self.table.mistakes.push(format!("the route of {queue:?}: {mistake}")),
        }
        self
    }

    /// Puts a layer around every handler so far; a state of the layer is shared by all of them. A layer that is added later
    /// goes around those that were added before.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Endpoint>,
        L::Service: Service<Job, Response: IntoOutcome, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>,
        L::Service: Clone + Send + Sync + 'static,
    {
        for (_, endpoint) in self.table.routes.iter_mut().flat_map(|route| &mut route.handlers) {
            *endpoint = endpoint.clone().layer(&layer);
        }
        self
    }

    /// The same routes, when no more handlers that take the state are added.
    #[must_use]
    pub fn without_state(self) -> Routes {
        Routes { state: (), table: self.table }
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }
}

impl From<Table> for Routes {
    fn from(table: Table) -> Self {
        Self { state: (), table }
    }
}

/// The routes, whatever state they were made with.
#[derive(Clone, Default)]
pub(crate) struct Table {
    pub(crate) routes: Vec<Entry>,
    /// The mistakes in routes, which the worker reports when it starts.
    pub(crate) mistakes: Vec<String>,
}

/// The handlers of the messages of all queues that fit a pattern.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) pattern: QueuePattern,
    pub(crate) handlers: Vec<(Option<MessageName>, Endpoint)>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) weight: Option<NonZeroU32>,
}

impl Table {
    /// Adds a route; one whose messages an earlier route of the same queue gets is a mistake.
    pub(crate) fn add(&mut self, route: Entry) {
        let earlier = self.routes.iter().filter(|earlier| earlier.pattern == route.pattern);
        let mut taken: HashSet<_> =
            earlier.flat_map(|earlier| &earlier.handlers).map(|(name, _)| name.clone()).collect();
        for (name, _) in &route.handlers {
            if !taken.insert(name.clone()) {
                let of = name.as_ref().map_or("all messages".to_owned(), |name| format!("messages named \"{name}\""));
                let mistake = format!("the queue {} has two handlers for {of}: remove one of them", route.pattern);
                self.mistakes.push(mistake);
            }
        }
        self.routes.push(route);
    }

    /// The routes of one queue, if there are any.
    pub(crate) fn of(&self, queue: &QueueName) -> Option<QueueRoutes> {
        let fitting = || self.routes.iter().filter(|route| route.pattern.fits(queue.as_str()));
        let rank = self.routes.iter().position(|route| route.pattern.fits(queue.as_str()))?;
        Some(QueueRoutes {
            rank,
            pattern: self.routes[rank].pattern.clone(),
            handlers: fitting().flat_map(|route| route.handlers.iter().cloned()).collect(),
            concurrency: fitting().find_map(|route| route.concurrency),
            weight: fitting().find_map(|route| route.weight).unwrap_or(NonZeroU32::MIN),
            unrouted: Mutex::default(),
        })
    }

    /// The starts of the names of queues that fit the patterns.
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

/// The routes of one queue.
pub(crate) struct QueueRoutes {
    handlers: Vec<(Option<MessageName>, Endpoint)>,
    /// The index of the first route that fits, among all.
    pub(crate) rank: usize,
    /// The pattern of the first route that fits, which labels the metrics of the queue.
    pub(crate) pattern: QueuePattern,
    pub(crate) concurrency: Option<usize>,
    pub(crate) weight: NonZeroU32,
    /// The names without a route that were reported.
    unrouted: Mutex<HashSet<String>>,
}

impl QueueRoutes {
    /// The number of names without a route that are reported; producers may make up any number.
    const MAX_UNROUTED: usize = 1_000;

    /// Whether a name without a route occurs for the first time, and is to be reported.
    pub(crate) fn is_first_of_name(&self, name: &str) -> bool {
        let mut unrouted = self.unrouted.lock();
        unrouted.len() < Self::MAX_UNROUTED && unrouted.insert(name.to_owned())
    }

    pub(crate) fn endpoint(&self, name: Option<&MessageName>) -> Option<&Endpoint> {
        let fits = |of: &Option<MessageName>| of.as_ref().is_none_or(|of| Some(of) == name);
        self.handlers.iter().find(|(of, _)| fits(of)).map(|(_, endpoint)| endpoint)
    }
}
