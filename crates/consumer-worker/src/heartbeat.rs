use std::{collections::HashSet, sync::Arc, time::Duration};

use queue_core::{Bell, Extended, MessageId, Millis, Queue};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::warn;

use crate::held::Held;

/// How soon after a cancel the leases are extended, which tells of every message that is to be cancelled.
const SOON: Duration = Duration::from_millis(200);

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
                ids = bell.told_to_cancel() => {
                    held.cancel(|id| ids.contains(id));
                    // One that is leased but not held yet is told by the next beat.
                    let soon = (Instant::now() + SOON).min(beat.deadline());
                    beat.as_mut().reset(soon);
                }
                changed = visibility_timeout.changed() => match changed {
                    // If it is shorter now the next beat is due earlier; never later, for what is held has the old one.
                    Ok(()) => {
                        let next = Instant::now() + visibility_timeout.borrow_and_update().to_std() / 3;
                        let next = next.min(beat.deadline());
                        beat.as_mut().reset(next);
                    }
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
