//! A route: the handlers of one queue or pattern, by the names of messages.

use queue_core::MessageName;

use crate::{Endpoint, IntoEndpoint};

/// What is done with the messages of a queue, by their names, and how much of it at once.
///
/// Made by [`on`] or [`any`], for [`Routes::route`](crate::Routes::route).
pub struct Route<S> {
    pub(crate) arms: Vec<Arm<S>>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) weight: Option<u32>,
}

/// A name, or all names, and the handler once the state is known; or what is wrong with the name.
pub(crate) type Arm<S> = (Result<Option<MessageName>, String>, Box<dyn FnOnce(&S) -> Endpoint + Send>);

/// Messages of this name go to this handler.
pub fn on<S, A>(name: &str, handler: impl IntoEndpoint<S, A> + Send + 'static) -> Route<S> {
    Route::default().on(name, handler)
}

/// All messages go to this handler.
pub fn any<S, A>(handler: impl IntoEndpoint<S, A> + Send + 'static) -> Route<S> {
    Route::default().fallback(handler)
}

impl<S> Default for Route<S> {
    fn default() -> Self {
        Self { arms: Vec::new(), concurrency: None, weight: None }
    }
}

impl<S> Route<S> {
    /// Messages of this name go to this handler.
    #[must_use]
    pub fn on<A>(mut self, name: &str, handler: impl IntoEndpoint<S, A> + Send + 'static) -> Self {
        let name = name.parse().map(Some).map_err(|error| format!("the name {name:?} of a route: {error}"));
        self.arms.push((name, Box::new(|state| handler.into_endpoint(state))));
        self
    }

    /// Messages of every other name, and those without one, go to this handler. Without a fallback they fail, with
    /// retries: another worker may know them.
    #[must_use]
    pub fn fallback<A>(mut self, handler: impl IntoEndpoint<S, A> + Send + 'static) -> Self {
        self.arms.push((Ok(None), Box::new(|state| handler.into_endpoint(state))));
        self
    }

    /// Leases held at once in this process, for each queue of the route. Defaults to `worker.concurrency`.
    #[must_use]
    pub fn concurrency(self, leases: usize) -> Self {
        Self { concurrency: Some(leases), ..self }
    }

    /// Its share where several queues have more to do than the process may hold leases (`worker.max_leases`): so many
    /// messages for each one of a queue of weight 1. Defaults to 1.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        Self { weight: Some(weight), ..self }
    }
}

/// What can stand for a queue in [`Routes::route`](crate::Routes::route): a [`Route`], or a handler for all messages.
pub trait IntoRoute<S, A> {
    /// The route.
    fn into_route(self) -> Route<S>;
}

/// Marks what is a route already.
pub struct ByName;

impl<S> IntoRoute<S, ByName> for Route<S> {
    fn into_route(self) -> Route<S> {
        self
    }
}

/// Marks what is a handler.
pub struct Whole<A>(std::marker::PhantomData<A>);

impl<S, A, H: IntoEndpoint<S, A> + Send + 'static> IntoRoute<S, Whole<A>> for H {
    fn into_route(self) -> Route<S> {
        any(self)
    }
}
