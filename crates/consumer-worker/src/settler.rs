use std::{sync::Arc, time::Duration};

use queue_core::{Action, Error, MAX_MESSAGES_PER_CALL, Queue, Retry, Settled, Settlement};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{error, warn};

use crate::{
    held::HeldLease,
    metrics::{Ended, QueueMetrics},
};

/// A lease that is to be ended.
pub(crate) struct Ending {
    pub(crate) held: HeldLease,
    pub(crate) action: Action,
}

/// Ends leases in batches: whatever came in while the last call was under way goes with the next.
///
/// A settle is safe to repeat, so it is, until Redis answers; the leases keep their places meanwhile, so nothing piles
/// up. Ends when all senders are gone; `give_up_after` that, if Redis does not answer, the rest lapses.
pub(crate) async fn settle(
    queue: Arc<Queue>,
    mut endings: mpsc::Receiver<Ending>,
    metrics: Arc<QueueMetrics>,
    give_up_after: Duration,
) {
    let mut batch = Vec::new();
    let mut closed_since = None;
    while endings.recv_many(&mut batch, MAX_MESSAGES_PER_CALL).await > 0 {
        // The places are held until the end is recorded.
        let (held, settlements): (Vec<HeldLease>, Vec<Settlement>) = batch
            .drain(..)
            .map(|ending| {
                let lease = ending.held.lease.clone();
                (ending.held, Settlement { lease, action: ending.action })
            })
            .unzip();
        let mut retry = Retry::new();
        while let Err(error) = record(&queue, &settlements, &metrics).await {
            if endings.is_closed() && closed_since.get_or_insert_with(Instant::now).elapsed() > give_up_after {
                error!(queue = %queue.name(), %error, leases = held.len(), "can't settle: these leases will lapse");
                for _ in &held {
                    metrics.note_end(Ended::Unsettled);
                }
                return;
            }
            sleep(retry.pause()).await;
        }
    }
}

/// Records a batch; errs only where another try may help.
async fn record(queue: &Queue, settlements: &[Settlement], metrics: &QueueMetrics) -> Result<(), Error> {
    match queue.settle(settlements).await {
        Ok(settled) => {
            for (settlement, end) in settlements.iter().zip(settled) {
                metrics.note_end(Ended::of(&settlement.action, end));
                if end == Settled::Gone {
                    warn!(
                        queue = %queue.name(),
                        id = %settlement.lease.id(),
                        "the lease was over before its end was recorded: the message is somebody else's"
                    );
                }
            }
            Ok(())
        }
        Err(error @ Error::Unavailable(_)) => Err(error),
        // One of them can't be settled; the others can.
        Err(_) if settlements.len() > 1 => {
            for settlement in settlements {
                Box::pin(record(queue, std::slice::from_ref(settlement), metrics)).await?;
            }
            Ok(())
        }
        Err(error) => {
            error!(queue = %queue.name(), %error, "can't settle: the lease will lapse");
            metrics.note_end(Ended::Unsettled);
            Ok(())
        }
    }
}
