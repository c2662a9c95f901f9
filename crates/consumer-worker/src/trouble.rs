use std::sync::atomic::Ordering;

use queue_core::{Error, Queue, Retry};
use tracing::{info, warn};

use crate::crew::Crew;

/// Tells what keeps a line from leasing once, not with each try; and that Redis is away once for all lines.
#[derive(Default)]
pub(crate) struct Trouble {
    pub(crate) retry: Retry,
    of_redis: bool,
    told: bool,
}

impl Trouble {
    /// It could not lease.
    pub(crate) fn goes_on(&mut self, crew: &Crew, queue: &Queue, error: &Error) {
        if matches!(error, Error::Unavailable(_)) {
            self.of_redis = true;
            if !crew.redis_is_away.swap(true, Ordering::Relaxed) {
                warn!(queue = %queue.name(), %error, "can't lease, trying on");
            }
        } else if !self.told {
            warn!(queue = %queue.name(), %error, "can't lease from this queue, trying on");
            self.told = true;
        }
    }

    /// It could.
    pub(crate) fn is_over(&mut self, crew: &Crew, queue: &Queue) {
        if self.told || self.of_redis && crew.redis_is_away.swap(false, Ordering::Relaxed) {
            info!(queue = %queue.name(), "leasing again");
        }
        *self = Self::default();
    }
}
