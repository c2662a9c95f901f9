//! The HTTP server of both services: it accepts connections from unauthenticated clients, within limits.

mod connection;
mod connections;
mod deadlines;
mod limits;
mod peer;
mod request_checks;
mod tls;

use std::io;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use limits::Limits;
pub use peer::Peer;
pub use request_checks::Hosts;
pub use tls::{InvalidTls, Tls};

use self::connections::Server;
use crate::config::BindAddress;

/// Listens on an address.
///
/// # Errors
///
/// Returns an error that names the address if the address is in use or does not belong to this machine, or if its name can't be
/// resolved.
pub async fn bind(address: &BindAddress) -> io::Result<TcpListener> {
    TcpListener::bind(address.host_and_port_to_resolve()).await.map_err(|error| {
        let advice =
            if error.kind() == io::ErrorKind::AddrInUse { "; choose another port with the key bind" } else { "" };
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}{advice}"))
    })
}

/// Serves requests until `shutdown` is cancelled, and then waits for current requests for at most [`Limits::grace`].
///
/// When `serve` returns, every connection is closed, and every task has ended.
///
/// # Errors
///
/// Returns an error if the listener has no address.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    info!(address = %listener.local_addr()?, tls = tls.is_some(), "listening");
    let limits = limits.within_open_file_limit();
    let server = Server { listener, router: router.with_state(()), limits, tls: tls.as_ref(), shutdown: &shutdown };
    let renew_certificate = async {
        if let Some(tls) = &tls {
            tls.renew_on_change(&shutdown).await;
        }
    };
    tokio::join!(server.run(), renew_certificate);
    Ok(())
}
