//! Limits the log records of a failure that lasts: one record, or one record per interval, instead of one record for each
//! failed attempt.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// An outage of a service that Drover calls, such as Redis, and the instant at which the outage was last logged.
///
/// ```
/// static REDIS_OUTAGE: service::Outage = service::Outage::reported_once();
/// assert!(REDIS_OUTAGE.record_failure() && !REDIS_OUTAGE.record_failure(), "an outage is reported once");
/// assert!(REDIS_OUTAGE.record_success() && !REDIS_OUTAGE.record_success(), "the end of an outage is reported once");
/// assert!(REDIS_OUTAGE.record_failure());
/// ```
#[derive(Debug)]
pub struct Outage {
    report_interval: Option<Duration>,
    reported_at: Mutex<Option<Instant>>,
}

impl Outage {
    /// Creates an outage that is reported once until it ends.
    pub const fn reported_once() -> Self {
        Self { report_interval: None, reported_at: Mutex::new(None) }
    }

    /// Creates an outage that is reported again after each interval while it lasts.
    pub const fn reported_every(interval: Duration) -> Self {
        Self { report_interval: Some(interval), reported_at: Mutex::new(None) }
    }

    /// Records a failed call: the outage begins or continues. Returns whether to log the outage now.
    pub fn record_failure(&self) -> bool {
        let mut reported_at = self.reported_at.lock();
        let is_due = reported_at.is_none_or(|at| self.report_interval.is_some_and(|interval| at.elapsed() >= interval));
        if is_due {
            *reported_at = Some(Instant::now());
        }
        is_due
    }

    /// Records a successful call: the outage is over. Returns whether the outage was logged, so that its end must be logged too.
    pub fn record_success(&self) -> bool {
        self.reported_at.lock().take().is_some()
    }
}
