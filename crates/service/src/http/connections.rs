//! All connections of a server: it accepts them while there is room, makes room by closing the oldest whose client was never
//! trusted, and owns them until the last is closed. The loop is ours because that of axum has no limit of connections, and none
//! of any library lets a new connection displace another one.

use std::{
    collections::{HashSet, VecDeque},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
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

use super::{Limits, Tls, connection::Connection};
use crate::outage::Outage;

/// The client of one connection, with the facts that requests and the server exchange about it. Each request has it in its
/// extensions, as `Arc<Peer>`.
#[derive(Debug)]
pub struct Peer {
    address: IpAddr,
    is_trusted: AtomicBool,
    is_displaced: AtomicBool,
    /// A token of its own: connections that shared one would wait for each other at its lock.
    stopping: CancellationToken,
}

impl Peer {
    /// A client that is not trusted yet. `stopping` is cancelled when no other request of its connection is to be answered.
    fn new(address: IpAddr, stopping: CancellationToken) -> Self {
        let (is_trusted, is_displaced) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { address, is_trusted, is_displaced, stopping }
    }

    /// The address that it connects from. Of an IPv6 address only the network (the first 64 bits): one client may have all the
    /// others in it.
    pub fn network(&self) -> IpAddr {
        match self.address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        }
    }

    /// Keeps its connection from being closed to make room for another one. The service decides what makes a client trusted,
    /// such as a valid key.
    pub fn note_trusted(&self) {
        self.is_trusted.store(true, Ordering::Relaxed);
    }

    /// Whether the connection was ever trusted.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::Relaxed)
    }

    /// Ends its connection, after the request under way.
    fn displace(&self) {
        self.is_displaced.store(true, Ordering::Relaxed);
        self.stopping.cancel();
    }

    /// Whether its connection must make room for another one.
    pub(super) fn is_displaced(&self) -> bool {
        self.is_displaced.load(Ordering::Relaxed)
    }

    /// Cancelled when the request under way is the last.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

/// Accepts connections and owns them.
pub(super) struct Server<'a> {
    pub(super) listener: TcpListener,
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) tls: Option<&'a Tls>,
    pub(super) shutdown: &'a CancellationToken,
}

impl Server<'_> {
    /// Runs until the shutdown, and then until the last connection is closed.
    pub(super) async fn run(self) {
        let mut open = OpenConnections::new(self.limits.max_connections);
        let (outage, crowd) = (Outage::reported_once(), Outage::reported_once());
        let mut retry = Retry::new();
        'serving: loop {
            // A client that comes when there is no room displaces the oldest one that was never trusted. Where all are
            // trusted, it waits in the backlog, costs those that are served nothing, and is accepted next.
            let takes_another = open.takes_another();
            note_crowd(&crowd, open.served(), self.limits.max_connections);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(()) = open.one_ended() => {}
                accepted = self.listener.accept(), if takes_another => match accepted {
                    Ok((stream, address)) => {
                        retry.reset();
                        if outage.is_over() {
                            info!("connections are accepted again");
                        }
                        // The client that would have made room may have become trusted while this one was waited for.
                        while !open.takes_another() {
                            tokio::select! {
                                () = self.shutdown.cancelled() => break 'serving,
                                Some(()) = open.one_ended() => {}
                            }
                        }
                        self.serve(&mut open, stream, address);
                    }
                    Err(error) if is_of_client(&error) => {}
                    Err(error) => {
                        if outage.goes_on() {
                            warn!(%error, "connections can't be accepted; trying on");
                        }
                        tokio::select! {
                            () = sleep(retry.pause()) => {}
                            () = self.shutdown.cancelled() => {}
                        }
                    }
                },
            }
        }
        // From here on clients are refused, and a load balancer tries another server.
        drop(self.listener);
        let all_closed = async { while open.one_ended().await.is_some() {} };
        if timeout(self.limits.grace, all_closed).await.is_err() {
            let grace_ms = self.limits.grace.as_millis();
            warn!(grace_ms, open = open.len(), "requests were still under way when the grace was over");
            open.tasks.shutdown().await;
        }
    }

    fn serve(&self, open: &mut OpenConnections, stream: TcpStream, address: SocketAddr) {
        let peer = Arc::new(Peer::new(address.ip(), self.shutdown.child_token()));
        let connection = Connection { router: self.router.clone(), limits: self.limits, peer: Arc::clone(&peer) };
        open.add(&peer, connection.serve(stream, self.tls.map(Tls::acceptor)));
    }
}

/// Whether a client gave its connection up before it was accepted.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Reports once that there is no room, and again only after half of the connections were closed.
fn note_crowd(crowd: &Outage, open: usize, max_connections: usize) {
    if open >= max_connections && crowd.goes_on() {
        warn!(
            max_connections,
            "as many connections are open as may be; a new one displaces the oldest that has shown no key, or waits"
        );
    } else if open <= max_connections / 2 {
        crowd.is_over();
    }
}

/// The most connections that are leaving, to make room, and have not ended yet. They come on top of those that are served.
pub(super) const MOST_LEAVING: usize = 32;

/// The tasks of all connections.
struct OpenConnections {
    tasks: JoinSet<()>,
    /// In the order in which they came. Some have ended or are trusted since: they are skipped, and forgotten now and then.
    untrusted: VecDeque<Untrusted>,
    leaving: HashSet<Id>,
    most: usize,
}

struct Untrusted {
    task: AbortHandle,
    peer: Weak<Peer>,
}

impl Untrusted {
    /// The client, if its connection is open and it is still not trusted.
    fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.upgrade().filter(|peer| !peer.is_trusted() && !self.task.is_finished())
    }
}

impl OpenConnections {
    /// Serves at most this many connections at a time.
    fn new(most: usize) -> Self {
        Self { tasks: JoinSet::new(), untrusted: VecDeque::new(), leaving: HashSet::new(), most }
    }

    /// The number that is served, without those that make room.
    fn served(&self) -> usize {
        self.tasks.len() - self.leaving.len()
    }

    /// The number of all.
    fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is room for another one, or room can be made.
    fn takes_another(&mut self) -> bool {
        self.served() < self.most || (self.leaving.len() < MOST_LEAVING && self.oldest_untrusted().is_some())
    }

    /// Serves another one. If there is no room for it, the oldest one that was never trusted leaves.
    fn add(&mut self, peer: &Arc<Peer>, connection: impl Future<Output = ()> + Send + 'static) {
        if self.served() >= self.most
            && let Some(oldest) = self.oldest_untrusted()
        {
            debug!("a connection that was never trusted makes room for a new one");
            oldest.displace();
            self.leaving.extend(self.untrusted.pop_front().map(|untrusted| untrusted.task.id()));
        }
        let task = self.tasks.spawn(connection);
        if self.untrusted.len() > 2 * self.tasks.len() {
            self.untrusted.retain(|untrusted| untrusted.peer().is_some());
        }
        self.untrusted.push_back(Untrusted { task, peer: Arc::downgrade(peer) });
    }

    /// Waits until one has ended; `None` when there is none.
    async fn one_ended(&mut self) -> Option<()> {
        let id = self.tasks.join_next_with_id().await?.map_or_else(|broken| broken.id(), |(id, ())| id);
        self.leaving.remove(&id);
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

    /// A connection that lasts until it must make room.
    fn connect(open: &mut OpenConnections) -> Arc<Peer> {
        let peer = Arc::new(Peer::new([127, 0, 0, 1].into(), CancellationToken::new()));
        let served = Arc::clone(&peer);
        open.add(&peer, async move { served.stopping().cancelled().await });
        peer
    }

    #[tokio::test]
    async fn oldest_connection_that_was_never_trusted_makes_room() {
        let mut open = OpenConnections::new(3);
        let [first, second, third] = [connect(&mut open), connect(&mut open), connect(&mut open)];
        first.note_trusted();
        assert!(open.takes_another());
        let fourth = connect(&mut open);
        let displaced = [&first, &second, &third, &fourth].map(|peer| peer.is_displaced());
        assert_eq!(displaced, [false, true, false, false]);
        assert_eq!((open.served(), open.len()), (3, 4));
        open.one_ended().await;
        assert_eq!((open.served(), open.len()), (3, 3));
    }

    #[tokio::test]
    async fn trusted_connections_make_no_room_and_few_leave_at_a_time() {
        let mut open = OpenConnections::new(1);
        connect(&mut open).note_trusted();
        assert!(!open.takes_another());
        let mut open = OpenConnections::new(100);
        let peers: Vec<_> = (0..100 + MOST_LEAVING).map(|_| connect(&mut open)).collect();
        assert!(!open.takes_another(), "none of those that leave has ended");
        assert_eq!((open.served(), peers.iter().filter(|peer| peer.is_displaced()).count()), (100, MOST_LEAVING));
        open.one_ended().await;
        assert!(open.takes_another());
    }

    #[tokio::test]
    async fn connections_that_have_ended_are_forgotten() {
        let mut open = OpenConnections::new(1_000);
        for _ in 0..500 {
            connect(&mut open).displace();
            open.one_ended().await;
        }
        assert!(open.untrusted.len() < 10, "{}", open.untrusted.len());
    }

    #[test]
    fn network_of_a_peer_is_its_ipv4_address_or_the_first_half_of_its_ipv6_address() {
        let network =
            |address: &str| Peer::new(address.parse().unwrap(), CancellationToken::new()).network().to_string();
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
