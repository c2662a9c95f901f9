use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use queue_core::{Action, Failure};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, Span, debug, info_span, warn};

use crate::{
    Job,
    held::{Stop, Stopper},
    metrics::QueueMetrics,
    routes::QueueRoutes,
};

/// How long a handler that is told to stop has to end by itself.
const TIME_TO_STOP: Duration = Duration::from_millis(500);

/// Runs the handler of one message. Answers how its lease ends; nothing if it is lost and there is nothing to end.
pub(crate) async fn run(routes: &QueueRoutes, job: Job, stopper: &Stopper, metrics: &QueueMetrics) -> Option<Action> {
    let name = job.message().name.clone();
    let Some(handler) = routes.handler(name.as_ref()) else {
        let name = name.as_ref().map_or("", |name| name.as_str());
        if routes.is_told_first(name) {
            warn!(queue = %job.queue.name(), name, "no route takes messages of this name: they fail");
        }
        return Some(Action::Fail(Failure::new(
            "no_handler",
            format!("no route of this worker takes the name {name:?}"),
        )));
    };
    let span = info_span!("job", queue = %job.queue.name(), id = %job.message().id, attempt = job.attempt());
    let limit = job.timeout();
    let start = Instant::now();
    // A handler may panic before it returns its future as well as in it.
    let running = AssertUnwindSafe(async { handler.handle(job).await }).catch_unwind().instrument(span.clone());
    let mut running = std::pin::pin!(running);
    let time_is_over = async {
        match limit {
            Some(limit) => sleep(limit.to_std()).await,
            None => std::future::pending().await,
        }
    };
    let action = tokio::select! {
        ended = &mut running => Some(ended.unwrap_or_else(|panic| panicked(&*panic))),
        () = time_is_over => {
            let took = limit.unwrap_or_default().get();
            Some(Action::Fail(Failure::new("timed_out", format!("the run took longer than {took} ms"))))
        }
        reason = stopper.told() => match (timeout(TIME_TO_STOP, &mut running).await, reason) {
            (Ok(ended), _) => Some(ended.unwrap_or_else(|panic| panicked(&*panic))),
            (Err(_), Stop::Cancelled) => Some(Action::FailForGood(Failure::new("cancelled", "cancelled on request"))),
            (Err(_), Stop::LeaseLost) => None,
        },
    };
    let took = start.elapsed();
    metrics.note_run(took);
    tell(&span, action.as_ref(), took);
    action
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Action {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Action::Fail(Failure::new("panicked", text.unwrap_or("the handler panicked")))
}

fn tell(span: &Span, action: Option<&Action>, took: Duration) {
    let duration_ms = took.as_secs_f64() * 1e3;
    span.in_scope(|| match action {
        Some(Action::Complete(_)) => debug!(duration_ms, "completed"),
        Some(Action::Fail(failure) | Action::FailAndRetryAfter(failure, _) | Action::FailForGood(failure)) => {
            warn!(duration_ms, code = failure.code, "failed");
        }
        Some(Action::Release(_)) => debug!(duration_ms, "released"),
        None => warn!(duration_ms, "stopped: its lease is lost"),
    });
}
