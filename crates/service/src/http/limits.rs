//! The limits of a server's connections: their number, their times, and what a client may send.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use super::request_checks::Hosts;
use crate::config::Api;

/// The maximum number of connections that are closing to make room for new connections. Such closing connections do not count
/// towards the maximum number of connections.
pub(super) const MAX_DISPLACED_CONNECTIONS: usize = 32;

/// The limits of the connections of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The maximum number of connections (default: 10,000). At the limit, a new connection displaces the oldest connection
    /// whose client was never trusted (see [`Peer::note_trusted_client`](super::Peer::note_trusted_client)); if all clients are
    /// trusted, the new connection waits in the listener's backlog.
    pub max_connections: usize,
    /// The time limit for a request's headers, from the first byte of the request or from the start of the connection (default:
    /// 10 s). The time limit for a request's headers also applies to the TLS handshake.
    pub header_timeout: Duration,
    /// The time limit from the end of a response to the first byte of the next request (default: 75 s).
    pub idle_timeout: Duration,
    /// The time limit in which a client must read the next 64 KiB, or the rest, of a response (default: 30 s).
    pub write_timeout: Duration,
    /// The names that the header `host` may have (default: any name).
    pub hosts: Hosts,
    /// The time that requests in progress may take to end at shutdown (default: 25 s).
    pub grace: Duration,
}

impl Limits {
    /// The maximum size of a request's first line and headers, in bytes, and also of its trailers.
    pub(super) const MAX_HEADER_BYTES: usize = 32 * 1024;

    /// Returns the limits of a server that serves only health and metrics, with few connections.
    pub fn for_health_server(grace: Duration) -> Self {
        Self { max_connections: 100, grace, ..Self::default() }
    }

    /// Raises the process's limit of open files to the number that the connections need. If the limit of open files can't be
    /// raised, the maximum number of connections is lowered, because a process without free file descriptors can't connect to
    /// Redis.
    pub(super) fn within_open_file_limit(mut self) -> Self {
        /// The number of file descriptors for Redis, the log, the listener, files, and displaced connections, which are being closed
        /// to make room for new ones.
        const RESERVED_FILES: u64 = 128 + MAX_DISPLACED_CONNECTIONS as u64;
        let needed_files = self.max_connections as u64 + RESERVED_FILES;
        let limit = getrlimit(Resource::Nofile);
        let allowed_files = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        if allowed_files(limit.current) >= needed_files {
            return self;
        }
        let raised_limit = needed_files.min(allowed_files(limit.maximum));
        let effective_limit = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised_limit), ..limit }) {
            Ok(()) => raised_limit,
            Err(_) => allowed_files(limit.current),
        };
        if effective_limit < needed_files {
            // Even with too low a limit of open files, the maximum number of connections is at least one.
            let affordable_connections =
                usize::try_from(effective_limit.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX).max(1);
            warn!(
                max_connections = self.max_connections,
                served_at_once = affordable_connections,
                "the limit of open files is too low for max_connections: raise it (ulimit -n, LimitNOFILE)"
            );
            self.max_connections = affordable_connections;
        }
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            hosts: Hosts::Any,
            grace: Duration::from_secs(25),
        }
    }
}

impl From<&Api> for Limits {
    fn from(api: &Api) -> Self {
        Self {
            max_connections: api.max_connections,
            header_timeout: api.header_timeout.to_std(),
            idle_timeout: api.idle_timeout.to_std(),
            write_timeout: api.write_timeout.to_std(),
            grace: api.shutdown_grace.to_std(),
            hosts: Hosts::Any,
        }
    }
}
