//! The HTTP server of both services: it takes connections from unauthenticated clients, within limits.

mod connection;
mod connections;
mod deadlines;
mod request_checks;
mod tls;

use std::{io, time::Duration};

use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use connections::Peer;
pub use request_checks::Hosts;
pub use tls::{InvalidTls, Tls};

use self::connections::{MOST_LEAVING, Server};
use crate::config::{Api, BindAddress};

/// The limits of connections.
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
    /// The names by which clients may call the server. Defaults to any.
    pub hosts: Hosts,
    /// The time that requests under way may take to end at shutdown. Defaults to 25 s.
    pub grace: Duration,
}

impl Limits {
    /// The headers of a request with its first line, and the trailers of its body, in bytes.
    const HEADER_BYTES: usize = 32 * 1024;

    /// Few connections, for health and metrics alone.
    pub fn of_health(grace: Duration) -> Self {
        Self { max_connections: 100, grace, ..Self::default() }
    }

    /// Raises the process's limit of open files to what the connections need, or lowers the number of connections where it
    /// can't be raised: a process without a free file descriptor could not reach Redis either.
    fn fitted_to_open_files(mut self) -> Self {
        /// Redis, the log, the listener, files read now and then, and connections that make room.
        const OTHERS: u64 = 128 + MOST_LEAVING as u64;
        let needed = self.max_connections as u64 + OTHERS;
        let limit = getrlimit(Resource::Nofile);
        let allowed = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        if allowed(limit.current) >= needed {
            return self;
        }
        let raised = needed.min(allowed(limit.maximum));
        let limit_now = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
            Ok(()) => raised,
            Err(_) => allowed(limit.current),
        };
        if limit_now < needed {
            // At least one, however little there is.
            let left = usize::try_from(limit_now.saturating_sub(OTHERS)).unwrap_or(usize::MAX).max(1);
            warn!(
                max_connections = self.max_connections,
                served_at_once = left,
                "the limit of open files is too low for max_connections: raise it (ulimit -n, LimitNOFILE)"
            );
            self.max_connections = left;
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

/// Listens on an address.
///
/// # Errors
///
/// The address is taken or not this machine's, or its name can't be resolved; the text names it.
pub async fn bind(address: &BindAddress) -> io::Result<TcpListener> {
    TcpListener::bind(address.to_resolve()).await.map_err(|error| {
        let way_out =
            if error.kind() == io::ErrorKind::AddrInUse { "; choose another port with the key bind" } else { "" };
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}{way_out}"))
    })
}

/// Serves until `shutdown`, then lets requests under way end for at most [`Limits::grace`].
///
/// On return every connection is closed, and every task has ended.
///
/// # Errors
///
/// The listener has no address.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    info!(address = %listener.local_addr()?, tls = tls.is_some(), "listening");
    let limits = limits.fitted_to_open_files();
    let server = Server { listener, router: router.with_state(()), limits, tls: tls.as_ref(), shutdown: &shutdown };
    let renewing = async {
        if let Some(tls) = &tls {
            tls.keep_fresh(&shutdown).await;
        }
    };
    tokio::join!(server.run(), renewing);
    Ok(())
}
