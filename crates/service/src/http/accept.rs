use std::{io, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Limits, Tls, connection::Connection};

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
        let mut connections = JoinSet::new();
        let mut trouble = Trouble::default();
        let mut crowd = Crowd::default();
        loop {
            // Who comes when all places are taken waits in the backlog, costs those that are served nothing, and gets
            // the next place. The silent and the slow give theirs up when their time is over.
            let has_room = connections.len() < self.limits.max_connections;
            crowd.note(connections.len(), self.limits.max_connections);
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if has_room => match accepted {
                    Ok((stream, _)) => {
                        trouble.is_over();
                        self.spawn(&mut connections, stream);
                    }
                    Err(error) => trouble.meet(&error, self.shutdown).await,
                },
            }
        }
        // From here on clients are refused, and a load balancer tries another.
        drop(self.listener);
        if timeout(self.limits.grace, all_closed(&mut connections)).await.is_err() {
            let grace_ms = self.limits.grace.as_millis();
            warn!(grace_ms, open = connections.len(), "requests were still under way when the grace was over");
            connections.shutdown().await;
        }
    }

    fn spawn(&self, connections: &mut JoinSet<()>, stream: TcpStream) {
        let (router, limits, stopping) = (self.router.clone(), self.limits, self.shutdown.child_token());
        let connection = Connection { router, limits, stopping };
        connections.spawn(connection.serve(stream, self.tls.map(Tls::acceptor)));
    }
}

async fn all_closed(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
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
            warn!(max_connections, "as many connections are open as may be; others wait until one is closed");
        } else if open <= max_connections / 2 {
            self.is_told = false;
        }
    }
}
