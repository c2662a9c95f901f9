//! Handlers of any kind as the worker calls them.

use std::{
    convert::Infallible,
    error::Error,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use queue_core::Failure;
use tower::{Layer, Service, ServiceExt, timeout::error::Elapsed};

use crate::{FromJob, Handler, HandlerError, IntoOutcome, Job, Outcome};

/// A handler as the worker calls it, whatever it was made of: a `tower` service of [`Job`]s, which layers go around.
#[derive(Clone)]
pub struct Endpoint(Arc<dyn Call>);

trait Call: Send + Sync {
    fn call(&self, job: Job) -> BoxFuture<'static, Outcome>;
}

impl Endpoint {
    /// Of a `tower` service. An error of the service is a failed attempt.
    pub fn of_service<S>(service: S) -> Self
    where
        S: Service<Job, Response: IntoOutcome, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>,
        S: Clone + Send + Sync + 'static,
    {
        Self(Arc::new(OfService(service)))
    }

    /// With a layer around it.
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
        self.0.call(job)
    }
}

impl Service<Job> for Endpoint {
    type Response = Outcome;
    type Error = Infallible;
    type Future = futures_util::future::Map<BoxFuture<'static, Outcome>, fn(Outcome) -> Result<Outcome, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, job: Job) -> Self::Future {
        self.handle(job).map(Ok)
    }
}

/// What can be a handler: an `async fn` whose arguments each come [from the job](FromJob) and which returns
/// [something that means an outcome](IntoOutcome); or a value that is a [`Handler`]; or an [`Endpoint`].
#[diagnostic::on_unimplemented(
    message = "this is no handler",
    note = "a handler is an async fn of up to eight arguments, each of which implements FromJob (Payload, State, Job), and \
            returns a Result, an Outcome or nothing; or a value that implements Handler"
)]
pub trait IntoEndpoint<S, Args> {
    /// With the state that its arguments may come from.
    fn into_endpoint(self, state: &S) -> Endpoint;
}

/// Marks what is an endpoint already.
pub struct AsItIs;

impl<S> IntoEndpoint<S, AsItIs> for Endpoint {
    fn into_endpoint(self, _: &S) -> Endpoint {
        self
    }
}

/// Marks what is a [`Handler`].
pub struct AsValue;

impl<S, H: Handler> IntoEndpoint<S, AsValue> for H {
    fn into_endpoint(self, _: &S) -> Endpoint {
        Endpoint(Arc::new(OfValue(Arc::new(self))))
    }
}

struct OfValue<H>(Arc<H>);

impl<H: Handler> Call for OfValue<H> {
    fn call(&self, job: Job) -> BoxFuture<'static, Outcome> {
        let handler = Arc::clone(&self.0);
        Box::pin(async move { handler.handle(job).await })
    }
}

struct OfService<S>(S);

impl<S> Call for OfService<S>
where
    S: Service<Job, Response: IntoOutcome, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    fn call(&self, job: Job) -> BoxFuture<'static, Outcome> {
        let service = self.0.clone();
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
    }
}

struct OfFunction<F, S> {
    function: F,
    state: S,
}

impl<F, S> Call for OfFunction<F, S>
where
    F: Fn(&S, Job) -> BoxFuture<'static, Outcome> + Send + Sync,
    S: Send + Sync,
{
    fn call(&self, job: Job) -> BoxFuture<'static, Outcome> {
        (self.function)(&self.state, job)
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
                let function = move |state: &S, job: Job| -> BoxFuture<'static, Outcome> {
                    $(let $arg = match $arg::from_job(&job, state) {
                        Ok(argument) => argument,
                        Err(outcome) => return std::future::ready(outcome).boxed(),
                    };)*
                    let running = self($($arg,)*);
                    Box::pin(async move { running.await.into_outcome() })
                };
                Endpoint(Arc::new(OfFunction { function, state: state.clone() }))
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
