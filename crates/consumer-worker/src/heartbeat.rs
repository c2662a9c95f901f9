use std::sync::Arc;

use queue_core::{Extended, Millis, Queue};
use tokio::{sync::watch, time::sleep};
use tracing::warn;

use crate::held::Held;

/// Extends the leases of a line while its handlers run: three times within each visibility timeout, so that one lost
/// call costs none of them. `visibility_timeout` follows what the last lease call said.
pub(crate) async fn beat(queue: Arc<Queue>, held: Held, mut visibility_timeout: watch::Receiver<Millis>) {
    loop {
        let pause = visibility_timeout.borrow_and_update().to_std() / 3;
        tokio::select! {
            () = sleep(pause) => {}
            changed = visibility_timeout.changed() => match changed {
                // Shorter now: the next beat is due earlier.
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        let leases = held.all();
        if leases.is_empty() {
            continue;
        }
        // An error is the driver's to tell: it meets the same one. The next beat tries again.
        let Ok(extended) = queue.extend(&leases, None).await else { continue };
        for (lease, extended) in leases.iter().zip(extended) {
            // One that was settled in the meantime is no longer held and nothing is lost.
            if extended == Extended::Gone && held.forget(lease) {
                warn!(queue = %queue.name(), id = %lease.id(), "a lease lapsed while its handler runs");
            }
        }
    }
}
