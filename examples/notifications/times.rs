//! The durations that the server uses, which are all computed from the visibility timeout of its leases.

use std::time::Duration;

/// The durations that the server uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The visibility timeout. The notifications of a killed server are delivered again when the visibility timeout is over.
    pub(crate) lease: Duration,
    /// The time after the lease within which a request of the user must fetch the notification, because the user may have changed to
    /// another server. Drover also waits for the time `fetch` before it leases an unacknowledged notification of a logged-in user again.
    pub(crate) fetch: Duration,
    /// The time after the lease within which the client must acknowledge the notification. After this time, the server uses the rest of the
    /// lease to return an unacknowledged notification to Drover.
    pub(crate) acknowledge: Duration,
    /// The longest time that a request waits for a notification.
    pub(crate) poll: Duration,
    /// The time for which a user counts as logged in after the last request. The time `online` is longer than `poll`, for which a request
    /// waits for a notification.
    pub(crate) online: Duration,
}

impl Times {
    /// The pause after a failed request to Drover.
    pub(crate) const RETRY: Duration = Duration::from_secs(1);

    /// Computes the durations from the visibility timeout.
    pub(crate) fn with_lease(lease: Duration) -> Self {
        Self { lease, fetch: lease / 5, acknowledge: lease * 4 / 5, poll: lease * 2, online: lease * 3 }
    }
}
