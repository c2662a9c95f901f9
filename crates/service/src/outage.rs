//! Limits the log records of a failure that lasts: one record, or one per interval, instead of one for each failed try.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// An outage, with the instant at which it was last logged.
///
/// ```
/// static AWAY: service::Outage = service::Outage::reported_once();
/// assert!(AWAY.goes_on() && !AWAY.goes_on(), "it is reported once");
/// assert!(AWAY.is_over() && !AWAY.is_over(), "and so is its end");
/// assert!(AWAY.goes_on());
/// ```
#[derive(Debug)]
pub struct Outage {
    report_interval: Option<Duration>,
    reported_at: Mutex<Option<Instant>>,
}

impl Outage {
    /// An outage that is reported once until it ends.
    pub const fn reported_once() -> Self {
        Self { report_interval: None, reported_at: Mutex::new(None) }
    }

    /// An outage that is reported again after each pause while it lasts.
    pub const fn reported_every(pause: Duration) -> Self {
        Self { report_interval: Some(pause), reported_at: Mutex::new(None) }
    }

    /// Notes that a call failed, so the outage goes on. Returns whether to log it now.
    pub fn goes_on(&self) -> bool {
        let mut reported_at = self.reported_at.lock();
        let is_due = reported_at.is_none_or(|at| self.report_interval.is_some_and(|after| at.elapsed() >= after));
        if is_due {
            *reported_at = Some(Instant::now());
        }
        is_due
    }

    /// Notes that the outage is over. Returns whether it was logged, so that its end is logged too.
    pub fn is_over(&self) -> bool {
        self.reported_at.lock().take().is_some()
    }
}
