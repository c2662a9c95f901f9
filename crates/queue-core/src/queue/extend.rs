//! Extends leases.

use crate::{
    error::Result,
    limits,
    message::LeaseToken,
    queue::{Call, Queue},
    redis::scripts,
    time::{Millis, Timestamp},
};

/// The outcome of extending a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// The lease lasts until this instant.
    Until(Timestamp),
    /// The lease lasts until this instant, but the message is to be cancelled: stop working on the message, and settle the
    /// lease.
    ToBeCancelled(Timestamp),
    /// The lease has lapsed or was settled: nothing was changed.
    LeaseOver,
}

impl Queue {
    /// Extends leases, so that each lasts for `visibility_timeout` from now; with `None`, for the visibility timeout with which
    /// its message was leased. A lease ends at most [`Queue::RUN_TIMEOUT_GRACE`] after the timeout of its run. Returns the
    /// outcome for each lease, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): some of the leases may have been extended.
    /// [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn extend(&self, leases: &[LeaseToken], visibility_timeout: Option<Millis>) -> Result<Vec<Extended>> {
        let mut extend_outcomes = Vec::with_capacity(leases.len());
        for chunk in leases.chunks(limits::MAX_MESSAGES) {
            let mut call = Call::new(&scripts::EXTEND, &self.keys)
                .arg(visibility_timeout.map(|timeout| timeout.get().to_string()).unwrap_or_default());
            for lease in chunk {
                call.push(lease.id().as_str());
                call.push(lease.secret());
            }
            for deadline in self.call::<Vec<i64>>(&scripts::EXTEND, call).await? {
                let instant = Timestamp::from_millis(deadline.unsigned_abs());
                extend_outcomes.push(match deadline {
                    0 => Extended::LeaseOver,
                    1.. => Extended::Until(instant),
                    _ => Extended::ToBeCancelled(instant),
                });
            }
        }
        Ok(extend_outcomes)
    }
}
