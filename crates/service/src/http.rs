use std::{io, net::SocketAddr, time::Duration};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Listens on an address.
///
/// # Errors
///
/// When the address is taken or not this machine's; the text names it.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let way_out =
            if error.kind() == io::ErrorKind::AddrInUse { "; choose another port with the key bind" } else { "" };
        io::Error::new(error.kind(), format!("can't listen on {address}: {error}{way_out}"))
    })
}

/// Serves until `shutdown`, then lets requests under way end for at most `grace`.
///
/// # Errors
///
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    grace: Duration,
) -> io::Result<()> {
    info!(address = %listener.local_addr()?, "listening");
    let stopping = shutdown.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned());
    let out_of_time = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        ended = server => ended,
        () = out_of_time => {
            warn!(grace_ms = grace.as_millis(), "requests were still under way when the grace was over");
            Ok(())
        }
    }
}
