//! How both services take connections from strangers, and what a connection may cost.

mod accept;
mod bodies;
mod connection;
mod descriptors;
mod hosts;
mod limits;
mod malformed;
mod open;
mod pace;
mod peer;
mod protection;
mod stream;
mod tls;

pub use hosts::Hosts;
pub use limits::Limits;
pub use peer::Peer;
pub use tls::{InvalidTls, Tls};

use std::io;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::accept::Server;
use crate::config::BindAddress;

/// Listens on an address.
///
/// # Errors
///
/// When the address is taken or not this machine's, or its name can't be resolved; the text names it.
pub async fn bind(address: &BindAddress) -> io::Result<TcpListener> {
    TcpListener::bind(address.host_and_port()).await.map_err(|error| {
        let way_out =
            if error.kind() == io::ErrorKind::AddrInUse { "; choose another port with the key bind" } else { "" };
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}{way_out}"))
    })
}

/// Serves until `shutdown`, then lets requests under way end for at most [`Limits::grace`].
///
/// On return nothing is left of it: every connection is closed, every task has ended.
///
/// # Errors
///
/// When the listener has no address.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let encrypted = tls.is_some();
    info!(address = %listener.local_addr()?, tls = encrypted, "listening");
    let limits = descriptors::fit(limits);
    let server = Server { listener, router: router.with_state(()), limits, tls: tls.as_ref(), shutdown: &shutdown };
    let fresh = async {
        if let Some(tls) = &tls {
            tls.keep_fresh(&shutdown).await;
        }
    };
    tokio::join!(server.run(), fresh);
    Ok(())
}
