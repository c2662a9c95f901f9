//! A chat: a server between the pages of users and Drover, which keeps each message until its receiver's page has acknowledged it.
//!
//! Each user has a queue, `chat-<user>`. A message to a user is posted to the user's queue with its sender as the `group`, so each sender's
//! messages are delivered in order. While a user's page is connected, the server leases messages from the user's queue, forwards each
//! message over the WebSocket, and completes the message when the page has acknowledged it. The server itself keeps nothing, so it may be
//! killed at any time, and several servers may run at once.

mod connection;
mod drover;
mod frames;
mod inbox;
mod outbox;
mod routes;
mod sessions;
mod user;

use std::{error::Error, io::IsTerminal, net::SocketAddr, sync::Arc, time::Duration};

use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{drover::Drover, sessions::Sessions};

/// The time that HTTP connections have to end when the server stops, and the time that `WebSocket`s then have to end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Serves the page of the chat, and delivers messages through Drover.
#[derive(Parser)]
struct Options {
    /// The URL of Drover's API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    drover: String,
    /// The address at which the server listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    bind: SocketAddr,
}

/// The state that all connections share.
struct App {
    drover: Arc<Drover>,
    sessions: Sessions,
    connections: TaskTracker,
    stop: CancellationToken,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_ansi(std::io::stdout().is_terminal()).init();
    let options = Options::parse();
    // The workspace builds reqwest with TLS but without cryptography, so the program must choose a provider of cryptography.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(options.bind).await?;
    info!("the chat is at http://{}", listener.local_addr()?);

    let app = Arc::new(App {
        drover: Arc::new(Drover::new(&options.drover)?),
        sessions: Sessions::default(),
        connections: TaskTracker::new(),
        stop: CancellationToken::new(),
    });
    let stop = app.stop.clone();
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    };
    let server = axum::serve(listener, routes::router(Arc::clone(&app))).with_graceful_shutdown(stopped);
    tokio::select! {
        result = server => result?,
        () = wait_until_stop_limit(&app.stop) => warn!("some browsers did not close their connections in time"),
    }
    app.connections.close();
    if timeout(STOP_WITHIN, app.connections.wait()).await.is_err() {
        warn!("some connections did not release their messages in time; the leases lapse");
    }
    Ok(())
}

/// Waits for the signal to stop, and then until the time limit to stop is over.
async fn wait_until_stop_limit(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_WITHIN).await;
}
