//! A failure that may last: the log gets one line, or one now and then, instead of one with each try.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// An outage, and the instant of its last line in the log.
///
/// ```
/// static AWAY: service::Outage = service::Outage::reported_once();
/// assert!(AWAY.goes_on() && !AWAY.goes_on(), "it is reported once");
/// assert!(AWAY.is_over() && !AWAY.is_over(), "and so is its end");
/// assert!(AWAY.goes_on());
/// ```
#[derive(Debug)]
pub struct Outage {
    again_after: Option<Duration>,
    reported_at: Mutex<Option<Instant>>,
}

impl Outage {
    /// An outage that is reported once until it ends.
    pub const fn reported_once() -> Self {
        Self { again_after: None, reported_at: Mutex::new(None) }
    }

    /// An outage that is reported again after each pause while it lasts.
    pub const fn reported_every(pause: Duration) -> Self {
        Self { again_after: Some(pause), reported_at: Mutex::new(None) }
    }

    /// Notes that it goes on. Returns whether it is to be reported now.
    pub fn goes_on(&self) -> bool {
        let mut reported_at = self.reported_at.lock();
        let is_due = reported_at.is_none_or(|at| self.again_after.is_some_and(|after| at.elapsed() >= after));
        if is_due {
            *reported_at = Some(Instant::now());
        }
        is_due
    }

    /// Notes that it is over. Returns whether it was reported, so that its end is to be reported too.
    pub fn is_over(&self) -> bool {
        self.reported_at.lock().take().is_some()
    }
}
