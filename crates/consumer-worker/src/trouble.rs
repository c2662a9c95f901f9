//! Tells what keeps a line from leasing once, not with each try; and that Redis is away once for all lines.

use queue_core::{Error, Queue, Retry};
use tracing::{info, warn};

use crate::crew::Crew;

/// The trouble of one line.
pub(crate) struct LineTrouble {
    pub(crate) retry: Retry,
    /// Whether the last error was that Redis is away.
    of_redis: bool,
    of_queue: service::Outage,
}

impl Default for LineTrouble {
    fn default() -> Self {
        Self { retry: Retry::new(), of_redis: false, of_queue: service::Outage::reported_once() }
    }
}

impl LineTrouble {
    /// It could not lease.
    pub(crate) fn goes_on(&mut self, crew: &Crew, queue: &Queue, error: &Error) {
        if matches!(error, Error::Unavailable(_)) {
            self.of_redis = true;
            if crew.redis_is_away.goes_on() {
                warn!(queue = %queue.name(), %error, "can't lease, trying on");
            }
        } else if self.of_queue.goes_on() {
            warn!(queue = %queue.name(), %error, "can't lease from this queue, trying on");
        }
    }

    /// It could.
    pub(crate) fn is_over(&mut self, crew: &Crew, queue: &Queue) {
        if self.of_queue.is_over() || self.of_redis && crew.redis_is_away.is_over() {
            info!(queue = %queue.name(), "leasing again");
        }
        *self = Self::default();
    }
}
