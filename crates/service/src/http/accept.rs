//! Takes connections as long as there are places for them, and owns them until the last is closed. The loop is ours because that of
//! axum has no limit of connections, and none of any library lets a new connection displace the oldest stranger.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Limits, Tls, connection::Connection, open::Open, peer::Peer};

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
        let mut trouble = Trouble::default();
        let mut crowd = Crowd::default();
        'serving: loop {
            // A client that comes when all places are taken gets that of the oldest stranger. Where there is none, it waits in
            // the backlog, costs those that are served nothing, and gets the next place.
            let takes_another = open.takes_another();
            crowd.note(open.served(), self.limits.max_connections);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(()) = open.one_ended() => {}
                accepted = self.listener.accept(), if takes_another => match accepted {
                    Ok((stream, address)) => {
                        trouble.is_over();
                        // The stranger that would have made room may have shown a key while this client was waited for.
                        while !open.takes_another() {
                            tokio::select! {
                                () = self.shutdown.cancelled() => break 'serving,
                                Some(()) = open.one_ended() => {}
                            }
                        }
                        self.serve(&mut open, stream, address);
                    }
                    Err(error) => trouble.meet(&error, self.shutdown).await,
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

/// Errors of accept, each told once and met with a pause.
#[derive(Default)]
struct Trouble {
    pause: Option<Duration>,
}

impl Trouble {
    const FIRST_PAUSE: Duration = Duration::from_millis(10);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    async fn meet(&mut self, error: &io::Error, shutdown: &CancellationToken) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        // The client's trouble, not ours.
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        if self.pause.is_none() {
            warn!(%error, "connections can't be accepted; trying on");
        }
        let pause = self.pause.map_or(Self::FIRST_PAUSE, |pause| (pause * 2).min(Self::LONGEST_PAUSE));
        self.pause = Some(pause);
        tokio::select! {
            () = sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }

    fn is_over(&mut self) {
        if self.pause.take().is_some() {
            info!("connections are accepted again");
        }
    }
}

/// Tells once that all places are taken, and again only after half of them were free.
#[derive(Default)]
struct Crowd {
    is_told: bool,
}

impl Crowd {
    fn note(&mut self, open: usize, max_connections: usize) {
        if open >= max_connections && !self.is_told {
            self.is_told = true;
            warn!(
                max_connections,
                "as many connections are open as may be; a new one displaces the oldest that has shown no key, or waits"
            );
        } else if open <= max_connections / 2 {
            self.is_told = false;
        }
    }
}
