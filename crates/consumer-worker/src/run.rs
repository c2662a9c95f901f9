use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use queue_core::Failure;
use tokio::time::{sleep, timeout};
use tracing::{Instrument, warn};

use crate::{Job, Outcome, held::Stop, job_span, routes::QueueRoutes};

/// How long a handler that is told to stop has to end by itself.
const TIME_TO_STOP: Duration = Duration::from_millis(500);

/// How a run went.
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    /// How long the handler ran, if there was one.
    pub(crate) took: Option<Duration>,
    pub(crate) lease: Standing,
}

/// Whether there is a lease to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Held,
    /// It lapsed, and the handler did not end by itself.
    Lost,
}

/// Runs the handler of one message.
pub(crate) async fn run(routes: Option<&QueueRoutes>, job: &Job) -> Ran {
    let Some(endpoint) = routes.and_then(|routes| routes.endpoint(job.name())) else {
        let name = job.name().map_or("", |name| name.as_str());
        if routes.is_some_and(|routes| routes.is_told_first(name)) {
            warn!(queue = %job.queue(), name, "no route takes messages of this name: they fail");
        }
        let failure = Failure::new("no_handler", format!("no route of this worker takes the name {name:?}"));
        return Ran { outcome: Outcome::Retry(failure), took: None, lease: Standing::Held };
    };
    let span = job_span::begin(job);
    let limit = job.timeout();
    let start = Instant::now();
    // A handler may panic before it returns its future as well as in it.
    let running = AssertUnwindSafe(async { endpoint.handle(job.clone()).await }).catch_unwind().instrument(span);
    let time_is_over = async {
        match limit {
            Some(limit) => sleep(limit.to_std()).await,
            None => std::future::pending().await,
        }
    };
    let mut lease = Standing::Held;
    let outcome = {
        let mut running = std::pin::pin!(running);
        tokio::select! {
            biased;
            ended = &mut running => ended.unwrap_or_else(|panic| panicked(&*panic)),
            reason = job.stopper().told() => match (timeout(TIME_TO_STOP, &mut running).await, reason) {
                (Ok(ended), _) => ended.unwrap_or_else(|panic| panicked(&*panic)),
                (Err(_), Stop::Cancelled) => Outcome::FailForGood(Failure::new("cancelled", "cancelled on request")),
                (Err(_), Stop::LeaseLost) => {
                    lease = Standing::Lost;
                    Outcome::Release(None)
                }
            },
            () = time_is_over => {
                let took = limit.unwrap_or_default().get();
                Outcome::Retry(Failure::new("timed_out", format!("the run took longer than {took} ms")))
            }
        }
    };
    let took = start.elapsed();
    // A handler that was dropped may have begun what takes a moment to end: a program. No other attempt runs beside it.
    if matches!(outcome, Outcome::Retry(_)) {
        job.has_ended().await;
    }
    Ran { outcome, took: Some(took), lease }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Outcome::Retry(Failure::new("panicked", text.unwrap_or("the handler panicked")))
}
