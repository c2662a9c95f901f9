//! Handlers of any kind, as the worker calls them: async functions, values, and `tower` services.

use std::{
    convert::Infallible,
    error::Error,
    future,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Map},
};
use queue_core::Failure;
use tower::{Layer, Service, ServiceExt, timeout::error::Elapsed};

use super::{FromJob, HandlerError, IntoOutcome, Outcome};
use crate::job::Job;

/// A handler that is a value with an `async fn`, as the built-in handlers are.
///
/// Most handlers are plain `async fn`s instead, see [`IntoEndpoint`].
pub trait Handler: Send + Sync + 'static {
    /// Works on one message and returns its outcome. A panic is a failure of that message, and of nothing else. The worker
    /// drops the future at the time-out of the run, and 0.5 s after the message was cancelled or its lease was lost.
    fn handle(&self, job: Job) -> impl Future<Output = Outcome> + Send;
}

/// A handler of any kind, as the worker calls it: a `tower` service of [`Job`]s, which layers go around.
#[derive(Clone)]
pub struct Endpoint(Arc<dyn Fn(Job) -> BoxFuture<'static, Outcome> + Send + Sync>);

impl Endpoint {
    fn new(call: impl Fn(Job) -> BoxFuture<'static, Outcome> + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    /// Makes an endpoint of a `tower` service. An error of the service is a failed attempt.
    pub fn of_service<S>(service: S) -> Self
    where
        S: Service<Job, Response: IntoOutcome, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>,
        S: Clone + Send + Sync + 'static,
    {
        Self::new(move |job| {
            let service = service.clone();
            Box::pin(async move {
                match service.oneshot(job).await {
                    Ok(response) => response.into_outcome(),
                    Err(error) => match error.into() {
                        error if error.is::<Elapsed>() => {
                            Outcome::Retry(Failure::new("timed_out", "the run took longer than its handler may"))
                        }
                        error => HandlerError::boxed(error).into_outcome(),
                    },
                }
            })
        })
    }

    /// Puts a layer around this endpoint.
    #[must_use]
    pub fn layer<L>(self, layer: &L) -> Self
    where
        L: Layer<Self>,
        L::Service: Service<Job, Response: IntoOutcome, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>,
        L::Service: Clone + Send + Sync + 'static,
    {
        Self::of_service(layer.layer(self))
    }

    /// Works on one message.
    pub(crate) fn handle(&self, job: Job) -> BoxFuture<'static, Outcome> {
        (self.0)(job)
    }
}

impl Service<Job> for Endpoint {
    type Response = Outcome;
    type Error = Infallible;
    type Future = Map<BoxFuture<'static, Outcome>, fn(Outcome) -> Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, job: Job) -> Self::Future {
        self.handle(job).map(Ok)
    }
}

/// A type that can be a handler: an `async fn` whose arguments each come [from the job](FromJob) and whose result
/// [stands for an outcome](IntoOutcome); or a value that is a [`Handler`]; or an [`Endpoint`].
#[diagnostic::on_unimplemented(
    message = "this is no handler",
    note = "a handler is an async fn of up to eight arguments, each of which implements FromJob (Payload, State, Job), and \
            returns a Result, an Outcome or nothing; or a value that implements Handler"
)]
pub trait IntoEndpoint<S, Args> {
    /// Makes the endpoint, with the state that its arguments may come from.
    fn into_endpoint(self, state: &S) -> Endpoint;
}

/// Marks a handler that is an [`Endpoint`] already.
pub struct AsItIs;

impl<S> IntoEndpoint<S, AsItIs> for Endpoint {
    fn into_endpoint(self, _: &S) -> Endpoint {
        self
    }
}

/// Marks a handler that is a value, a [`Handler`].
pub struct AsValue;

impl<S, H: Handler> IntoEndpoint<S, AsValue> for H {
    fn into_endpoint(self, _: &S) -> Endpoint {
        let handler = Arc::new(self);
        Endpoint::new(move |job| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { handler.handle(job).await })
        })
    }
}

macro_rules! functions_are_handlers {
    ($($arg:ident)*) => {
        impl<S, F, R, $($arg,)*> IntoEndpoint<S, fn($($arg,)*) -> R> for F
        where
            S: Clone + Send + Sync + 'static,
            F: Fn($($arg,)*) -> R + Send + Sync + 'static,
            R: Future<Output: IntoOutcome> + Send + 'static,
            $($arg: FromJob<S>,)*
        {
            #[allow(non_snake_case, unused_variables)]
            fn into_endpoint(self, state: &S) -> Endpoint {
                let state = state.clone();
                Endpoint::new(move |job| {
                    $(let $arg = match $arg::from_job(&job, &state) {
                        Ok(argument) => argument,
                        Err(outcome) => return future::ready(outcome).boxed(),
                    };)*
                    let running = self($($arg,)*);
                    Box::pin(async move { running.await.into_outcome() })
                })
            }
        }
    };
}

functions_are_handlers!();
functions_are_handlers!(A);
functions_are_handlers!(A B);
functions_are_handlers!(A B C);
functions_are_handlers!(A B C D);
functions_are_handlers!(A B C D E);
functions_are_handlers!(A B C D E G);
functions_are_handlers!(A B C D E G H);
functions_are_handlers!(A B C D E G H I);
