//! One run of a handler: it ends by itself, at its time-out, or when it is told to stop.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use queue_core::{Failure, MessageName, Queue};
use tokio::time::{sleep, timeout_at};
use tracing::{Instrument, warn};

use crate::{Job, Outcome, held::Stop, job_span, routes::QueueRoutes};

/// How long a handler that is told to stop has to end by itself.
const TIME_TO_STOP: Duration = Duration::from_millis(500);

/// How long it takes at most to tell Redis what came of a run.
const TIME_TO_SETTLE: Duration = Duration::from_millis(200);

/// How long what belongs to a run may go on when the time-out of the run is over: a program that is being ended, a handler
/// that was told to stop. The lease lasts until its outcome is told; then another attempt may begin.
pub(crate) const AFTER_THE_RUNS_TIME: Duration = Queue::RUN_TIMEOUT_GRACE.to_std().saturating_sub(TIME_TO_SETTLE);
const _: () = assert!(!AFTER_THE_RUNS_TIME.is_zero(), "the lease ends before the outcome of a run is told");

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
        let name = job.name().map(MessageName::as_str);
        // No name is empty, so the empty text stands for none.
        let is_first = routes.is_some_and(|routes| routes.is_told_first(name.unwrap_or_default()));
        let which = if let Some(name) = name {
            if is_first {
                warn!(queue = %job.queue(), name, "no route takes messages of this name: they fail");
            }
            format!("the name {name:?}")
        } else {
            if is_first {
                warn!(queue = %job.queue(), "no route takes messages without a name: they fail");
            }
            "messages without a name".to_owned()
        };
        let failure = Failure::new("no_handler", format!("no route of this worker takes {which}"));
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
            reason = job.stopper().told() => match (timeout_at(last_instant(job), &mut running).await, reason) {
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

/// Until when a handler that is told to stop now may go on.
fn last_instant(job: &Job) -> tokio::time::Instant {
    let has_had_its_time = tokio::time::Instant::now() + TIME_TO_STOP;
    job.deadline().map_or(has_had_its_time, |deadline| has_had_its_time.min((deadline + AFTER_THE_RUNS_TIME).into()))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Outcome::Retry(Failure::new("panicked", text.unwrap_or("the handler panicked")))
}

#[cfg(test)]
mod tests {
    use queue_core::Millis;
    use tokio::time::Instant;

    use super::*;
    use crate::{Routes, TestJob};

    /// For how long the handler of a job runs that is cancelled so long after its start and does not stop.
    async fn runs_for(timeout: Option<Millis>, cancelled_after: Duration) -> Duration {
        let job = TestJob::new("q", &1);
        let job = timeout.into_iter().fold(job, TestJob::timeout).job();
        let routes = Routes::new().route("q", async |_: Job| -> Outcome { std::future::pending().await });
        let stopper = job.stopper().clone();
        let start = Instant::now();
        let cancelling = async {
            sleep(cancelled_after).await;
            stopper.stop(Stop::Cancelled);
        };
        let (outcome, ()) = tokio::join!(routes.handle(job), cancelling);
        assert!(matches!(outcome, Outcome::FailForGood(_)));
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_is_told_to_stop_shortly_before_its_time_out_ends_before_its_lease() {
        let a_timer = Duration::from_millis(5);
        let (soon, late) = (Duration::from_millis(100), Duration::from_millis(990));
        let ran = runs_for(Some(Millis::from_secs(1)), late).await;
        let lease_ends = Duration::from_secs(1) + Queue::RUN_TIMEOUT_GRACE.to_std();
        assert!(ran > Duration::from_secs(1) && ran + TIME_TO_SETTLE <= lease_ends + a_timer, "{ran:?}");
        // After the other one: a job reads the real clock, which has stood still since then.
        for timeout in [None, Some(Millis::from_secs(10))] {
            let ran = runs_for(timeout, soon).await;
            assert!(ran >= soon + TIME_TO_STOP && ran <= soon + TIME_TO_STOP + a_timer, "{ran:?}");
        }
    }
}
