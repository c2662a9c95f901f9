//! A server that delivers notifications to users. Drover holds the notifications of a user who is not logged in, and the server delivers
//! them when the user logs in.
//!
//! Services post each notification to Drover's queue `notifications`, with the user's name as its `group` and `online:<name>` as its `hold`
//! key. A user logs in by requesting the next notification: the server then sends the signal that releases the user's held notifications.
//! The server stores nothing on disk, so it may be killed at any time, and several servers may run at once.

mod delivery;
mod drover;
mod mailboxes;
mod routes;
mod times;
mod user;

use std::{
    error::Error,
    io::{IsTerminal, stdout},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{drover::Drover, mailboxes::Mailboxes, times::Times};

/// Delivers notifications of Drover's queue `notifications` to users.
#[derive(Parser)]
struct Options {
    /// The URL of Drover's API.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    drover: String,
    /// The address at which the server listens.
    #[arg(long, default_value = "127.0.0.1:8090")]
    bind: SocketAddr,
    /// The URL at which other servers of the example reach this one [default: the address of --bind].
    #[arg(long)]
    url: Option<String>,
    /// The visibility timeout, from which the server's other times follow.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    lease_seconds: u64,
}

/// The state that all tasks and requests of the server share.
struct App {
    drover: Drover,
    mailboxes: Mailboxes,
    times: Times,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_ansi(stdout().is_terminal()).init();
    let options = Options::parse();
    // The workspace's reqwest is built with TLS, and without a provider of cryptography.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let times = Times::with_lease(Duration::from_secs(options.lease_seconds));
    let listener = TcpListener::bind(options.bind).await?;
    let url = options.url.unwrap_or(format!("http://{}", listener.local_addr()?));
    let drover = Drover::new(&options.drover, url, times)?;
    let app = Arc::new(App { drover, mailboxes: Mailboxes::new(times), times });
    info!("the server listens at http://{}", listener.local_addr()?);

    let stop = CancellationToken::new();
    let tasks = [
        tokio::spawn(stop_at_signal(stop.clone())?),
        tokio::spawn(delivery::deliver(app.clone(), stop.clone())),
        tokio::spawn(delivery::return_overdue(app.clone(), stop.clone())),
    ];
    // When the server stops, closing the mailboxes ends all waiting requests.
    axum::serve(listener, routes::router(app)).with_graceful_shutdown(stop.cancelled_owned()).await?;
    for task in tasks {
        task.await?;
    }
    Ok(())
}

/// Waits for SIGTERM or SIGINT, and then stops the server.
fn stop_at_signal(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    })
}
