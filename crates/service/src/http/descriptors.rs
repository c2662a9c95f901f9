//! The limit of open files, which must allow as many connections as may be open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use super::{Limits, open::MOST_LEAVING};

/// For all that is not served: Redis, the log, the listener, files read now and then, and connections that make room.
const OWN: u64 = 128 + MOST_LEAVING as u64;

/// Raises the limit of open files to what the connections need, or has fewer connections where it can't be raised: a
/// process without a file descriptor left could not reach Redis either.
pub(super) fn fit(mut limits: Limits) -> Limits {
    let needed = limits.max_connections as u64 + OWN;
    let limit = getrlimit(Resource::Nofile);
    let allowed = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if allowed(limit.current) >= needed {
        return limits;
    }
    let raised = needed.min(allowed(limit.maximum));
    let limit_now = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
        Ok(()) => raised,
        Err(_) => allowed(limit.current),
    };
    if limit_now < needed {
        // At least one, however little there is.
        let left = usize::try_from(limit_now.saturating_sub(OWN)).unwrap_or(usize::MAX).max(1);
        warn!(
            max_connections = limits.max_connections,
            served_at_once = left,
            "the limit of open files is too low for max_connections: raise it (ulimit -n, LimitNOFILE)"
        );
        limits.max_connections = left;
    }
    limits
}
