use std::{panic::AssertUnwindSafe, time::Instant};

use futures_util::FutureExt;
use queue_core::{Delivery, Failure, QueueName};
use tracing::{Instrument, debug, info_span, warn};

use crate::{Outcome, routes::QueueRoutes};

/// Runs the handler of one message.
pub(crate) async fn run(queue: &QueueName, routes: &QueueRoutes, delivery: Delivery) -> Outcome {
    let message = &delivery.message;
    let attempt = message.attempts_made + 1;
    let Some(handler) = routes.handler(message.name.as_ref()) else {
        let name = message.name.as_ref().map_or("", |name| name.as_str());
        return Outcome::Failed(Failure::new("no_handler", format!("no route of this worker takes the name {name:?}")));
    };
    let span = info_span!("job", %queue, id = %message.id, attempt);
    let start = Instant::now();
    // A handler may panic before it returns its future as well as in it.
    let running = AssertUnwindSafe(async { handler.handle(delivery).await }).catch_unwind().instrument(span.clone());
    let outcome = running.await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Outcome::Failed(Failure::new("panicked", text.unwrap_or("the handler panicked")))
    });
    let duration_ms = start.elapsed().as_secs_f64() * 1e3;
    span.in_scope(|| match &outcome {
        Outcome::Completed(_) => debug!(duration_ms, "completed"),
        Outcome::Failed(failure) | Outcome::FailedRetryAfter(failure, _) | Outcome::FailedForGood(failure) => {
            warn!(duration_ms, code = failure.code, "failed");
        }
        Outcome::Released(_) => debug!(duration_ms, "released"),
    });
    outcome
}
