//! The routes of a worker: they select the handler of a message by its queue (or a pattern) and its name.

use std::{collections::HashSet, error::Error, marker::PhantomData, num::NonZeroU32};

use parking_lot::Mutex;
use queue_core::{MessageName, QueueName, settings::QueuePattern};
use tower::{Layer, Service};

use super::{
    endpoint::{Endpoint, IntoEndpoint},
    outcome::IntoOutcome,
};
use crate::job::Job;

/// The handlers for a queue, by message name, and their concurrency and weight. The functions [`on`] and [`any`] create a
/// `Route`, and [`Routes::route`] takes the `Route`.
pub struct Route<S> {
    handlers: Vec<NamedHandler<S>>,
    concurrency: Option<usize>,
    weight: Option<u32>,
}

/// A handler for messages of one name, or for all messages if the name is `None`. The boxed function makes the endpoint
/// of the handler when the state of the routes is known. If the code that builds the routes gave an invalid message
/// name, the error text is stored instead of the name.
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

    /// Routes messages of all other names, and messages without a name, to this handler. Without a fallback, an attempt of a
    /// message without a handler fails, and another attempt follows, because another worker may have a route for the message.
    #[must_use]
    pub fn fallback<A>(mut self, handler: impl IntoEndpoint<S, A> + Send + 'static) -> Self {
        self.handlers.push((Ok(None), Box::new(|state| handler.into_endpoint(state))));
        self
    }

    /// Sets the maximum number of handlers that run at once in one process, for each queue of the route (default:
    /// `worker.concurrency`).
    #[must_use]
    pub fn concurrency(self, handlers: usize) -> Self {
        Self { concurrency: Some(handlers), ..self }
    }

    /// Sets the weight of each queue of the route with `worker.order = "weighted"` (default: 1). The weight matters when the
    /// leases of the process (`worker.max_leases`) do not suffice for all queues: a queue of weight 3 gets three times as many
    /// messages as a queue of weight 1.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        Self { weight: Some(weight), ..self }
    }
}

/// A value that [`Routes::route`] takes for a queue: a [`Route`], or a handler for all messages.
pub trait IntoRoute<S, A> {
    /// Converts a route or a handler into a [`Route`].
    fn into_route(self) -> Route<S>;
}

/// A marker type, with which a [`Route`] implements [`IntoRoute`].
pub struct IsRoute;

impl<S> IntoRoute<S, IsRoute> for Route<S> {
    fn into_route(self) -> Route<S> {
        self
    }
}

/// A marker type, with which a handler of all messages implements [`IntoRoute`].
pub struct IsHandlerForAll<A>(PhantomData<A>);

impl<S, A, H: IntoEndpoint<S, A> + Send + 'static> IntoRoute<S, IsHandlerForAll<A>> for H {
    fn into_route(self) -> Route<S> {
        any(self)
    }
}

/// The handlers of a worker, by queue and message name. The first route that matches a message gets the message.
///
/// ```
/// use consumer_worker::{HandlerError, Payload, Routes, on};
///
/// async fn welcome(Payload(to): Payload<String>) -> Result<String, HandlerError> {
///     Ok(format!("welcomed {to}"))
/// }
/// async fn add_numbers(Payload(numbers): Payload<Vec<u64>>) -> Result<u64, HandlerError> {
///     Ok(numbers.iter().sum())
/// }
///
/// let routes = Routes::new()
///     .route("mails", on("welcome", welcome)) // messages of one name
///     .route("user-*", add_numbers); // all messages of each queue whose name starts with user-
/// # let _ = routes;
/// ```
#[derive(Clone)]
pub struct Routes<S = ()> {
    state: S,
    table: RouteTable,
}

impl Routes {
    /// Creates an empty set of routes whose handlers share no state.
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
    /// Creates an empty set of routes whose handlers share the state `state`. Handlers get a clone of the state, or of
    /// a part of it, as [`State`](crate::State).
    pub fn with_state(state: S) -> Self {
        Self { state, table: RouteTable::default() }
    }

    /// Routes the messages of this queue, or of each queue that matches the pattern (`user-*`, or `*` for all), to one handler,
    /// or [by their names](crate::on) to several. If several routes match a queue, the first route that has a handler for the
    /// message's name gets the message.
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
                self.table.add(RouteEntry { pattern, handlers, concurrency: route.concurrency, weight });
            }
            Err(mistake) => self.table.mistakes.push(format!("the route of {queue:?}: {mistake}")),
        }
        self
    }

    /// Wraps every handler that was added so far in a layer. All wrapped handlers share the layer's state. A later layer wraps
    /// the earlier layers.
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

    /// Makes the routes independent of the handlers' shared state. After `without_state`, no handler that takes the
    /// state can be added to the routes.
    #[must_use]
    pub fn without_state(self) -> Routes {
        Routes { state: (), table: self.table }
    }

    pub(crate) fn table(&self) -> &RouteTable {
        &self.table
    }
}

impl From<RouteTable> for Routes {
    fn from(table: RouteTable) -> Self {
        Self { state: (), table }
    }
}

/// The routes of a worker, in a form that does not depend on the handlers' shared state.
#[derive(Clone, Default)]
pub(crate) struct RouteTable {
    pub(crate) routes: Vec<RouteEntry>,
    /// The mistakes in routes, which the worker reports when it starts.
    pub(crate) mistakes: Vec<String>,
}

/// A route: the handlers for the messages of all queues that match a pattern.
#[derive(Clone)]
pub(crate) struct RouteEntry {
    pub(crate) pattern: QueuePattern,
    pub(crate) handlers: Vec<(Option<MessageName>, Endpoint)>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) weight: Option<NonZeroU32>,
}

impl RouteTable {
    /// Adds a route. A second handler for the same queue and message name is recorded as a mistake.
    pub(crate) fn add(&mut self, route: RouteEntry) {
        let earlier_routes = self.routes.iter().filter(|earlier| earlier.pattern == route.pattern);
        let mut routed_names: HashSet<_> =
            earlier_routes.flat_map(|earlier| &earlier.handlers).map(|(name, _)| name.clone()).collect();
        for (name, _) in &route.handlers {
            if !routed_names.insert(name.clone()) {
                let messages =
                    name.as_ref().map_or("all messages".to_owned(), |name| format!("messages named \"{name}\""));
                let mistake =
                    format!("the queue {} has two handlers for {messages}: remove one of them", route.pattern);
                self.mistakes.push(mistake);
            }
        }
        self.routes.push(route);
    }

    /// Returns the routes that match a queue; `None` if no route matches.
    pub(crate) fn routes_of_queue(&self, queue: &QueueName) -> Option<QueueRoutes> {
        let matching_routes = || self.routes.iter().filter(|route| route.pattern.matches(queue.as_str()));
        let route_rank = self.routes.iter().position(|route| route.pattern.matches(queue.as_str()))?;
        Some(QueueRoutes {
            rank: route_rank,
            pattern: self.routes[route_rank].pattern.clone(),
            handlers: matching_routes().flat_map(|route| route.handlers.iter().cloned()).collect(),
            concurrency: matching_routes().find_map(|route| route.concurrency),
            weight: matching_routes().find_map(|route| route.weight).unwrap_or(NonZeroU32::MIN),
            unrouted: Mutex::default(),
        })
    }

    /// Returns the prefixes of the patterns that routes have.
    pub(crate) fn pattern_prefixes(&self) -> Vec<String> {
        self.routes.iter().filter_map(|route| route.pattern.prefix().map(str::to_owned)).collect()
    }

    /// Returns the queues that routes name exactly, without duplicates, in the order of the routes.
    pub(crate) fn exact_queue_names(&self) -> Vec<QueueName> {
        let mut queue_names: Vec<QueueName> = Vec::new();
        for queue in self.routes.iter().filter_map(|route| route.pattern.queue()) {
            if !queue_names.contains(&queue) {
                queue_names.push(queue);
            }
        }
        queue_names
    }
}

/// The routes of one queue.
pub(crate) struct QueueRoutes {
    handlers: Vec<(Option<MessageName>, Endpoint)>,
    /// The index of the first matching route among all routes.
    pub(crate) rank: usize,
    /// The pattern of the first matching route, which labels the metrics of the queue.
    pub(crate) pattern: QueuePattern,
    pub(crate) concurrency: Option<usize>,
    pub(crate) weight: NonZeroU32,
    /// The names of messages that were logged because no route takes the messages.
    unrouted: Mutex<HashSet<String>>,
}

impl QueueRoutes {
    /// The maximum number of names without a route that are logged. The number of logged names is limited, because
    /// producers may use any number of message names.
    const MAX_LOGGED_NAMES: usize = 1_000;

    /// Records the name of a message that no handler of the route takes. Returns whether the name must be logged,
    /// because it was not recorded before.
    pub(crate) fn record_unrouted(&self, name: &str) -> bool {
        let mut unrouted_names = self.unrouted.lock();
        unrouted_names.len() < Self::MAX_LOGGED_NAMES && unrouted_names.insert(name.to_owned())
    }

    pub(crate) fn endpoint_for_name(&self, name: Option<&MessageName>) -> Option<&Endpoint> {
        let matches_name = |wanted: &Option<MessageName>| wanted.as_ref().is_none_or(|wanted| Some(wanted) == name);
        self.handlers.iter().find(|(wanted, _)| matches_name(wanted)).map(|(_, endpoint)| endpoint)
    }
}
