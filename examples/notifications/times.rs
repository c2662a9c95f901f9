//! The times of the server, which all follow from the time that a client has to acknowledge a notification.

use std::time::Duration;

/// The times of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The visibility timeout. After a kill of the server, its notifications are delivered again when this time is over.
    pub(crate) lease: Duration,
    /// The time after the lease in which a request of the user must come: a user may have changed to another server. Also the
    /// pause of a notification that was not acknowledged, while its user is logged in.
    pub(crate) fetch: Duration,
    /// The time after the lease in which the client must acknowledge. The rest of the lease is for the notification's return.
    pub(crate) acknowledge: Duration,
    /// The longest time that a request waits for a notification.
    pub(crate) poll: Duration,
    /// The time after its last request for which a user counts as logged in: longer than a request waits.
    pub(crate) online: Duration,
}

impl Times {
    /// The pause after a failed request to Drover.
    pub(crate) const RETRY: Duration = Duration::from_secs(1);

    /// The times for a lease of this duration.
    pub(crate) fn with_lease(lease: Duration) -> Self {
        Self { lease, fetch: lease / 5, acknowledge: lease * 4 / 5, poll: lease * 2, online: lease * 3 }
    }
}
