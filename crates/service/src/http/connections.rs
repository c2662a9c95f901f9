//! All connections of a server. The server accepts connections up to a limit. At the limit, a new connection displaces (closes)
//! the oldest connection of an untrusted client. The service decides which clients it trusts, such as clients that sent a valid
//! API key. Drover has its own accept loop, because axum's accept loop has no limit, and no library can displace connections.

use std::{
    collections::{HashSet, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use axum::Router;
use queue_core::Retry;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, Id, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    connection::Connection,
    limits::{Limits, MAX_DISPLACED_CONNECTIONS},
    peer::Peer,
    tls::Tls,
};
use crate::outage::Outage;

/// A server, which accepts connections and owns them.
pub(super) struct Server<'a> {
    pub(super) listener: TcpListener,
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) tls: Option<&'a Tls>,
    pub(super) shutdown: &'a CancellationToken,
}

impl Server<'_> {
    /// Accepts connections until the shutdown, and then waits until all connections are closed or the grace period is over.
    pub(super) async fn run(self) {
        let mut connections = OpenConnections::new(self.limits.max_connections);
        let (outage, full_report) = (Outage::reported_once(), Outage::reported_once());
        let mut retry = Retry::new();
        'serving: loop {
            // At the limit, a new connection displaces (closes) the oldest connection of an untrusted client. If the service
            // trusts all connected clients, such as clients that sent a valid API key, a new connection waits in the listener's
            // backlog.
            let has_room = connections.has_room();
            log_connection_limit(&full_report, connections.served_count(), self.limits.max_connections);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(()) = connections.wait_for_closed_connection() => {}
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, address)) => {
                        retry.reset();
                        if outage.record_success() {
                            info!("connections are accepted again");
                        }
                        // While the server waited for a new connection, the last untrusted client, whose connection would be
                        // closed to make room, may have become trusted.
                        while !connections.has_room() {
                            tokio::select! {
                                () = self.shutdown.cancelled() => break 'serving,
                                Some(()) = connections.wait_for_closed_connection() => {}
                            }
                        }
                        self.serve(&mut connections, stream, address);
                    }
                    Err(error) if is_client_abort(&error) => {}
                    Err(error) => {
                        if outage.record_failure() {
                            warn!(%error, "connections can't be accepted; trying again");
                        }
                        tokio::select! {
                            () = sleep(retry.pause()) => {}
                            () = self.shutdown.cancelled() => {}
                        }
                    }
                },
            }
        }
        // The server refuses new clients after the shutdown began, so that a load balancer tries another server.
        drop(self.listener);
        let wait_for_all = async { while connections.wait_for_closed_connection().await.is_some() {} };
        if timeout(self.limits.grace, wait_for_all).await.is_err() {
            let grace_ms = self.limits.grace.as_millis();
            warn!(grace_ms, open = connections.open_count(), "requests were still under way when the grace was over");
            connections.tasks.shutdown().await;
        }
    }

    fn serve(&self, open: &mut OpenConnections, stream: TcpStream, address: SocketAddr) {
        let peer = Arc::new(Peer::new(address.ip(), self.shutdown.child_token()));
        let connection = Connection { router: self.router.clone(), limits: self.limits, peer: Arc::clone(&peer) };
        open.add(&peer, connection.serve(stream, self.tls.map(Tls::acceptor)));
    }
}

/// Returns whether the client aborted the connection before it was accepted.
fn is_client_abort(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Logs once that the limit of connections is reached, and again only after half of the connections were closed.
fn log_connection_limit(full_report: &Outage, open: usize, max_connections: usize) {
    if open >= max_connections && full_report.record_failure() {
        warn!(
            max_connections,
            "the maximum number of connections is open; a new connection displaces the oldest that has shown no key, or waits"
        );
    } else if open <= max_connections / 2 {
        full_report.record_success();
    }
}

/// The tasks of all connections.
struct OpenConnections {
    tasks: JoinSet<()>,
    /// The connections of clients that the service does not trust, the oldest first. A connection that has ended, or whose
    /// client became trusted, is skipped in this list, and is removed from it later.
    untrusted: VecDeque<UntrustedConnection>,
    displaced_tasks: HashSet<Id>,
    max_served: usize,
}

struct UntrustedConnection {
    task: AbortHandle,
    peer: Weak<Peer>,
}

impl UntrustedConnection {
    /// Returns the client of the connection, if the connection is open and the client is still not trusted.
    fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.upgrade().filter(|peer| !peer.is_trusted() && !self.task.is_finished())
    }
}

impl OpenConnections {
    /// Creates an empty set for at most `max_served` connections.
    fn new(max_served: usize) -> Self {
        Self { tasks: JoinSet::new(), untrusted: VecDeque::new(), displaced_tasks: HashSet::new(), max_served }
    }

    /// Returns the number of open connections, without the connections that close to make room for new connections.
    fn served_count(&self) -> usize {
        self.tasks.len() - self.displaced_tasks.len()
    }

    /// Returns the number of open connections, including the connections that close to make room for new connections.
    fn open_count(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether another connection can be accepted, perhaps by displacing a connection.
    fn has_room(&mut self) -> bool {
        self.served_count() < self.max_served
            || (self.displaced_tasks.len() < MAX_DISPLACED_CONNECTIONS && self.oldest_untrusted().is_some())
    }

    /// Serves another connection. At the limit, the oldest untrusted connection is displaced.
    fn add(&mut self, peer: &Arc<Peer>, connection: impl Future<Output = ()> + Send + 'static) {
        if self.served_count() >= self.max_served
            && let Some(oldest) = self.oldest_untrusted()
        {
            debug!("a connection that was never trusted is displaced by a new connection");
            oldest.displace_by_new_connection();
            self.displaced_tasks.extend(self.untrusted.pop_front().map(|untrusted| untrusted.task.id()));
        }
        let task = self.tasks.spawn(connection);
        if self.untrusted.len() > 2 * self.tasks.len() {
            self.untrusted.retain(|untrusted| untrusted.peer().is_some());
        }
        self.untrusted.push_back(UntrustedConnection { task, peer: Arc::downgrade(peer) });
    }

    /// Waits until a connection has ended; `None` if there are no connections.
    async fn wait_for_closed_connection(&mut self) -> Option<()> {
        let id = self.tasks.join_next_with_id().await?.map_or_else(|broken| broken.id(), |(id, ())| id);
        self.displaced_tasks.remove(&id);
        Some(())
    }

    fn oldest_untrusted(&mut self) -> Option<Arc<Peer>> {
        while let Some(untrusted) = self.untrusted.front() {
            let peer = untrusted.peer();
            if peer.is_some() {
                return peer;
            }
            self.untrusted.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a connection that lasts until it is closed to make room for a new connection.
    fn add_open_connection(open: &mut OpenConnections) -> Arc<Peer> {
        let peer = Arc::new(Peer::new([127, 0, 0, 1].into(), CancellationToken::new()));
        let served_peer = Arc::clone(&peer);
        open.add(&peer, async move { served_peer.stop_token().cancelled().await });
        peer
    }

    #[tokio::test]
    async fn oldest_untrusted_connection_is_displaced() {
        let mut connections = OpenConnections::new(3);
        let [first, second, third] = [
            add_open_connection(&mut connections),
            add_open_connection(&mut connections),
            add_open_connection(&mut connections),
        ];
        first.note_trusted_client();
        assert!(connections.has_room());
        let fourth_peer = add_open_connection(&mut connections);
        let displaced_flags = [&first, &second, &third, &fourth_peer].map(|peer| peer.is_displaced_by_new_connection());
        assert_eq!(displaced_flags, [false, true, false, false]);
        assert_eq!((connections.served_count(), connections.open_count()), (3, 4));
        connections.wait_for_closed_connection().await;
        assert_eq!((connections.served_count(), connections.open_count()), (3, 3));
    }

    #[tokio::test]
    async fn trusted_connections_are_not_displaced_and_the_number_of_displaced_connections_is_limited() {
        let mut connections = OpenConnections::new(1);
        add_open_connection(&mut connections).note_trusted_client();
        assert!(!connections.has_room());
        let mut connections = OpenConnections::new(100);
        let peers: Vec<_> =
            (0..100 + MAX_DISPLACED_CONNECTIONS).map(|_| add_open_connection(&mut connections)).collect();
        assert!(!connections.has_room(), "no displaced connection has ended");
        assert_eq!(
            (connections.served_count(), peers.iter().filter(|peer| peer.is_displaced_by_new_connection()).count()),
            (100, MAX_DISPLACED_CONNECTIONS)
        );
        connections.wait_for_closed_connection().await;
        assert!(connections.has_room());
    }

    #[tokio::test]
    async fn connections_that_have_ended_are_forgotten() {
        let mut connections = OpenConnections::new(1_000);
        for _ in 0..500 {
            add_open_connection(&mut connections).displace_by_new_connection();
            connections.wait_for_closed_connection().await;
        }
        assert!(connections.untrusted.len() < 10, "{}", connections.untrusted.len());
    }
}
