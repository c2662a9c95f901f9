//! The common form of all handlers, by which the worker calls them: async functions, values of [`Handler`], and `tower`
//! services.

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

use super::{
    from_job::FromJob,
    outcome::{HandlerError, IntoOutcome, Outcome},
};
use crate::job::Job;

/// A handler whose method `handle` works on a message. The handlers that a configuration can name (`log`, `http`,
/// `exec`) implement `Handler`.
///
/// Most handlers are plain `async fn`s, which need not implement `Handler`: see [`IntoEndpoint`].
pub trait Handler: Send + Sync + 'static {
    /// Runs the handler on one message, and returns the outcome. A panic fails the attempt, and affects no other message. The
    /// worker drops the future of `handle` at the time-out of the run, and 0.5 s after the message was cancelled or its lease
    /// was lost.
    fn handle(&self, job: Job) -> impl Future<Output = Outcome> + Send;
}

/// A handler in the form that the worker calls: a `tower` service of [`Job`]s, to which layers can be added.
#[derive(Clone)]
pub struct Endpoint(Arc<dyn Fn(Job) -> BoxFuture<'static, Outcome> + Send + Sync>);

impl Endpoint {
    fn new(call: impl Fn(Job) -> BoxFuture<'static, Outcome> + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    /// Makes an endpoint from a `tower` service. An error that the `tower` service returns is a failed attempt.
    pub fn from_service<S>(service: S) -> Self
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

    /// Wraps this endpoint in a layer.
    #[must_use]
    pub fn layer<L>(self, layer: &L) -> Self
    where
        L: Layer<Self>,
        L::Service: Service<Job, Response: IntoOutcome, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>,
        L::Service: Clone + Send + Sync + 'static,
    {
        Self::from_service(layer.layer(self))
    }

    /// Runs the handler on one message.
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

/// A value that can be used as a handler: an `async fn` whose arguments implement [`FromJob`] and whose return type
/// implements [`IntoOutcome`]; or a value that implements [`Handler`]; or an [`Endpoint`].
#[diagnostic::on_unimplemented(
    message = "this type is not a handler",
    note = "a handler is an async fn of up to eight arguments, each of which implements FromJob (Payload, State, Job), and \
            returns a Result, an Outcome or nothing; or a value that implements Handler"
)]
pub trait IntoEndpoint<S, Args> {
    /// Makes the endpoint. The state is the source of the handler's [`State`](crate::State) arguments.
    fn into_endpoint(self, state: &S) -> Endpoint;
}

/// A marker type, with which an [`Endpoint`] implements [`IntoEndpoint`].
pub struct IsEndpoint;

impl<S> IntoEndpoint<S, IsEndpoint> for Endpoint {
    fn into_endpoint(self, _: &S) -> Endpoint {
        self
    }
}

/// A marker type, with which every [`Handler`] implements [`IntoEndpoint`].
pub struct IsHandler;

impl<S, H: Handler> IntoEndpoint<S, IsHandler> for H {
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
            #[allow(non_snake_case, unused_variables, reason = "arguments are named as their types; a handler may take none")]
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
