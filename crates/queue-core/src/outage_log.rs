//! Logs only the first of several failures in a row of work that a process does again and again, and then its first success.

use tracing::{info, warn};

use crate::error::Result;

/// The log of one kind of work that is repeated.
pub(crate) struct OutageLog {
    failure: &'static str,
    recovery: &'static str,
    is_logged: bool,
}

impl OutageLog {
    /// Makes the log of outages of one kind of work. `failure` is logged with the first error of an outage, and `recovery` with the
    /// first success after the outage.
    pub(crate) fn new(failure: &'static str, recovery: &'static str) -> Self {
        Self { failure, recovery, is_logged: false }
    }

    /// Takes a result of the repeated work, and logs an outage that begins or ends with this result.
    pub(crate) fn note_result(&mut self, result: Result<()>) {
        match result {
            Err(error) if !self.is_logged => {
                warn!(%error, "{}, trying again", self.failure);
                self.is_logged = true;
            }
            Ok(()) if self.is_logged => {
                info!("{}", self.recovery);
                self.is_logged = false;
            }
            _ => {}
        }
    }
}
