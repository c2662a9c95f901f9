//! One run of a handler. The run ends when the handler ends by itself, at the time-out of the run, or when the handler is
//! cancelled.

use std::{
    any::Any,
    future,
    panic::AssertUnwindSafe,
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use queue_core::{Failure, MessageName};
use tokio::time::{sleep, timeout_at};
use tracing::{Instrument, warn};

use crate::{
    job::{CancelReason, Job},
    routing::{Outcome, QueueRoutes},
};

/// The time that a cancelled handler has to end by itself.
const TIME_TO_STOP: Duration = Duration::from_millis(500);

/// The result of a run.
pub(crate) struct RunEnd {
    pub(crate) outcome: Outcome,
    /// The run time of the handler; `None` if no route had a handler.
    pub(crate) run_time: Option<Duration>,
    pub(crate) lease: LeaseState,
}

/// Whether the message of a run still has a lease to settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseState {
    Valid,
    /// The lease was lost, and the handler did not end by itself in time. If a cancelled handler ends in time, the worker
    /// tries to settle its lease even if the lease was lost.
    Lost,
}

/// Runs the handler of one message.
pub(crate) async fn run(routes: Option<&QueueRoutes>, job: &Job) -> RunEnd {
    let Some(endpoint) = routes.and_then(|routes| routes.endpoint_for_name(job.name())) else {
        return RunEnd {
            outcome: Outcome::Retry(failure_without_route(routes, job)),
            run_time: None,
            lease: LeaseState::Valid,
        };
    };
    let span = job.begin_span();
    let run_timeout = job.timeout();
    let start_time = Instant::now();
    // A handler may panic while it creates its future, or while the future runs.
    let running = AssertUnwindSafe(async { endpoint.handle(job.clone()).await }).catch_unwind().instrument(span);
    let time_limit = async {
        match run_timeout {
            Some(run_timeout) => sleep(run_timeout.to_std()).await,
            None => future::pending().await,
        }
    };
    let mut lease = LeaseState::Valid;
    let outcome = {
        let mut running = pin!(running);
        tokio::select! {
            biased;
            ended = &mut running => ended.unwrap_or_else(|panic| outcome_of_panic(&*panic)),
            reason = job.cancel_handle().cancelled() => match (
                timeout_at(job.cleanup_deadline(TIME_TO_STOP), &mut running).await,
                reason,
            ) {
                (Ok(ended), _) => ended.unwrap_or_else(|panic| outcome_of_panic(&*panic)),
                (Err(_), CancelReason::Cancelled) => Outcome::FailForGood(Failure::new("cancelled", "cancelled on request")),
                (Err(_), CancelReason::LeaseLost) => {
                    lease = LeaseState::Lost;
                    Outcome::Release(None)
                }
            },
            () = time_limit => {
                let run_time_ms = run_timeout.unwrap_or_default().get();
                Outcome::Retry(Failure::new("timed_out", format!("the run took longer than {run_time_ms} ms")))
            }
        }
    };
    let run_time = start_time.elapsed();
    // The program of a dropped handler takes a moment to end. No other attempt may start before the program has ended.
    if matches!(outcome, Outcome::Retry(_)) {
        job.cleanup_ended().await;
    }
    RunEnd { outcome, run_time: Some(run_time), lease }
}

/// Returns the failure of a message without a matching route, and logs the first message of each name.
fn failure_without_route(routes: Option<&QueueRoutes>, job: &Job) -> Failure {
    let name = job.name().map(MessageName::as_str);
    // The name of a message is never empty, so the empty text represents a missing name.
    let is_first = routes.is_some_and(|routes| routes.record_unrouted(name.unwrap_or_default()));
    let messages_text = name.map_or_else(|| "messages without a name".to_owned(), |name| format!("the name {name:?}"));
    match name {
        Some(name) if is_first => warn!(queue = %job.queue(), name, "no route takes messages of this name: they fail"),
        None if is_first => warn!(queue = %job.queue(), "no route takes messages without a name: they fail"),
        _ => {}
    }
    Failure::new("no_handler", format!("no route of this worker takes {messages_text}"))
}

fn outcome_of_panic(panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Outcome::Retry(Failure::new("panicked", text.unwrap_or("the handler panicked")))
}

#[cfg(test)]
mod tests {
    use queue_core::{Millis, Queue};
    use tokio::time::Instant;

    use super::*;
    use crate::{job::TIME_TO_SETTLE, routing::Routes, testing::TestJob};

    /// Runs a handler that ignores its cancellation, and cancels the handler after the time `cancelled_after`. Returns how long
    /// the handler ran.
    async fn run_time(timeout: Option<Millis>, cancelled_after: Duration) -> Duration {
        let job = TestJob::new("q", &1);
        let job = timeout.into_iter().fold(job, TestJob::timeout).job();
        let routes = Routes::new().route("q", async |_: Job| -> Outcome { future::pending().await });
        let cancel_handle = job.cancel_handle().clone();
        let start_time = Instant::now();
        let cancel_job = async {
            sleep(cancelled_after).await;
            cancel_handle.cancel(CancelReason::Cancelled);
        };
        let (outcome, ()) = tokio::join!(routes.handle(job), cancel_job);
        assert!(matches!(outcome, Outcome::FailForGood(_)));
        start_time.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn handler_that_is_cancelled_shortly_before_its_time_out_ends_before_its_lease() {
        let timer_error = Duration::from_millis(5);
        let (soon, late) = (Duration::from_millis(100), Duration::from_millis(990));
        let measured_time = run_time(Some(Millis::from_secs(1)), late).await;
        let lease_ends = Duration::from_secs(1) + Queue::RUN_TIMEOUT_GRACE.to_std();
        assert!(
            measured_time > Duration::from_secs(1) && measured_time + TIME_TO_SETTLE <= lease_ends + timer_error,
            "{measured_time:?}"
        );
        // Tokio's paused clock does not affect `Job`, which reads the real clock; so the runs whose time-out is late or absent
        // come last.
        for timeout in [None, Some(Millis::from_secs(10))] {
            let measured_time = run_time(timeout, soon).await;
            assert!(
                measured_time >= soon + TIME_TO_STOP && measured_time <= soon + TIME_TO_STOP + timer_error,
                "{measured_time:?}"
            );
        }
    }
}
