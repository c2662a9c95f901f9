//! Takes connections as long as there are places for them, and owns them until the last is closed. The loop is ours because that of
//! axum has no limit of connections, and none of any library lets a new connection displace the oldest stranger.

use std::{io, net::SocketAddr, sync::Arc};

use axum::Router;
use queue_core::Retry;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Limits, Tls, connection::Connection, open::Open, peer::Peer};
use crate::Trouble;

/// Takes connections and owns them.
pub(super) struct Server<'a> {
    pub(super) listener: TcpListener,
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) tls: Option<&'a Tls>,
    pub(super) shutdown: &'a CancellationToken,
}

impl Server<'_> {
    /// Until the shutdown, and then until the last connection is closed.
    pub(super) async fn run(self) {
        let mut open = Open::new(self.limits.max_connections);
        let (trouble, crowd) = (Trouble::told_once(), Trouble::told_once());
        let mut retry = Retry::new();
        'serving: loop {
            // A client that comes when all places are taken gets that of the oldest stranger. Where there is none, it waits in
            // the backlog, costs those that are served nothing, and gets the next place.
            let takes_another = open.takes_another();
            note_crowd(&crowd, open.served(), self.limits.max_connections);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(()) = open.one_ended() => {}
                accepted = self.listener.accept(), if takes_another => match accepted {
                    Ok((stream, address)) => {
                        retry.reset();
                        if trouble.is_over() {
                            info!("connections are accepted again");
                        }
                        // The stranger that would have made room may have shown a key while this client was waited for.
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
                        if trouble.goes_on() {
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
        // From here on clients are refused, and a load balancer tries another.
        drop(self.listener);
        let all_closed = async { while open.one_ended().await.is_some() {} };
        if timeout(self.limits.grace, all_closed).await.is_err() {
            let grace_ms = self.limits.grace.as_millis();
            warn!(grace_ms, open = open.len(), "requests were still under way when the grace was over");
            open.shutdown().await;
        }
    }

    fn serve(&self, open: &mut Open, stream: TcpStream, address: SocketAddr) {
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

/// Tells once that all places are taken, and again only after half of them were free.
fn note_crowd(crowd: &Trouble, open: usize, max_connections: usize) {
    if open >= max_connections && crowd.goes_on() {
        warn!(
            max_connections,
            "as many connections are open as may be; a new one displaces the oldest that has shown no key, or waits"
        );
    } else if open <= max_connections / 2 {
        crowd.is_over();
    }
}
