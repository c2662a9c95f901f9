//! The limits of connections, for both services.

use std::time::Duration;

use super::Hosts;
use crate::config::Api;

/// What strangers may cost, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections served at once. A new one displaces the oldest whose client was never trusted; where all are, it waits in
    /// the backlog of the listener. Defaults to 10,000.
    pub max_connections: usize,
    /// From a request's first byte, or from the beginning of a connection, until the end of the request's headers; for
    /// the handshake of TLS too. Defaults to 10 s.
    pub header_timeout: Duration,
    /// From the end of an answer until the next request begins. Defaults to 75 s.
    pub idle_timeout: Duration,
    /// Until a client has taken another 64 KiB of its answer, or all that is left. Defaults to 30 s.
    pub write_timeout: Duration,
    /// By which names it is called. Defaults to any.
    pub hosts: Hosts,
    /// How long requests under way may take to end at shutdown. Defaults to 25 s.
    pub grace: Duration,
}

impl Limits {
    /// The headers of a request with its first line, and the trailers of its body, in bytes.
    pub(super) const HEADER_BYTES: usize = 32 * 1024;

    /// Few connections, for what only probes and operators ask.
    pub fn of_health(grace: Duration) -> Self {
        Self { max_connections: 100, grace, ..Self::default() }
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
            ..Self::default()
        }
    }
}
