use std::{panic::AssertUnwindSafe, time::Instant};

use futures_util::FutureExt;
use queue_core::{Action, Delivery, Failure, QueueName};
use tracing::{Instrument, debug, info_span, warn};

use crate::routes::QueueRoutes;

/// Runs the handler of one message.
pub(crate) async fn run(queue: &QueueName, routes: &QueueRoutes, delivery: Delivery) -> Action {
    let message = &delivery.message;
    let attempt = message.attempts_made + 1;
    let Some(handler) = routes.handler(message.name.as_ref()) else {
        let name = message.name.as_ref().map_or("", |name| name.as_str());
        return Action::Fail(Failure::new("no_handler", format!("no route of this worker takes the name {name:?}")));
    };
    let span = info_span!("job", %queue, id = %message.id, attempt);
    let start = Instant::now();
    // A handler may panic before it returns its future as well as in it.
    let running = AssertUnwindSafe(async { handler.handle(delivery).await }).catch_unwind().instrument(span.clone());
    let action = running.await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Action::Fail(Failure::new("panicked", text.unwrap_or("the handler panicked")))
    });
    let duration_ms = start.elapsed().as_secs_f64() * 1e3;
    span.in_scope(|| match &action {
        Action::Complete(_) => debug!(duration_ms, "completed"),
        Action::Fail(failure) | Action::FailAndRetryAfter(failure, _) | Action::FailForGood(failure) => {
            warn!(duration_ms, code = failure.code, "failed");
        }
        Action::Release(_) => debug!(duration_ms, "released"),
    });
    action
}
