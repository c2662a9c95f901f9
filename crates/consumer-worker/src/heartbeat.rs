use std::{collections::HashSet, sync::Arc};

use queue_core::{Bell, Extended, MessageId, Millis, Queue};
use tokio::{sync::watch, time::sleep};
use tracing::warn;

use crate::held::Held;

/// Extends the leases of a line while its handlers run: three times within each visibility timeout, so that one lost
/// call costs none of them. `visibility_timeout` follows what the last lease call said. Passes on what is cancelled
/// meanwhile: the bell tells at once, and if that was lost the next beat does.
pub(crate) async fn beat(
    queue: Arc<Queue>,
    bell: Arc<Bell>,
    held: Held,
    mut visibility_timeout: watch::Receiver<Millis>,
) {
    loop {
        let pause = visibility_timeout.borrow_and_update().to_std() / 3;
        let mut beat = std::pin::pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut beat => break,
                ids = bell.told_to_cancel() => held.cancel(|id| ids.contains(id)),
                changed = visibility_timeout.changed() => match changed {
                    // Shorter now: the next beat is due earlier.
                    Ok(()) => beat.set(sleep(visibility_timeout.borrow_and_update().to_std() / 3)),
                    Err(_) => return,
                },
            }
        }
        let leases = held.all();
        if leases.is_empty() {
            continue;
        }
        // An error is the driver's to tell: it meets the same one. The next beat tries again.
        let Ok(extended) = queue.extend(&leases, None).await else { continue };
        let mut cancelled: HashSet<&MessageId> = HashSet::new();
        for (lease, extended) in leases.iter().zip(extended) {
            match extended {
                Extended::ToBeCancelled(_) => {
                    cancelled.insert(lease.id());
                }
                // One that was settled in the meantime is no longer held and nothing is lost.
                Extended::Gone if held.lose(lease) => {
                    warn!(queue = %queue.name(), id = %lease.id(), "a lease lapsed while its handler runs");
                }
                Extended::Until(_) | Extended::Gone => {}
            }
        }
        held.cancel(|id| cancelled.contains(id));
    }
}
