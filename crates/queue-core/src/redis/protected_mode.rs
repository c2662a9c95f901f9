//! Recognises a Redis that refuses connections from other machines because it has no password (protected mode).

use std::time::Duration;

use deadpool_redis::redis::{Client, ConnectionAddr, RedisError};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::error::{Error, PROTECTED_MODE};

/// The words with which such a Redis closes a connection.
const DENIED: &[u8; 7] = b"-DENIED";
/// How long it may take to say so: it does at once, but a machine may be busy. Less than a call may take, so that a server that
/// answers nothing at all is reported with the first error and not as one that is slow.
const TIME_TO_SAY_SO: Duration = Duration::from_secs(1);
/// Why no connection came about. Redis in protected mode closes a connection without reading from it, so a client that has
/// written already sees a reset and not the reason: the reason is read over a connection that nothing is written to.
pub(crate) async fn explain(error: RedisError, client: &Client) -> Error {
    let is_closed = error.is_io_error() && !error.is_connection_refusal() && !error.is_timeout();
    if is_closed && timeout(TIME_TO_SAY_SO, is_denied(client)).await.unwrap_or(false) {
        return Error::Unavailable(PROTECTED_MODE.into());
    }
    error.into()
}

async fn is_denied(client: &Client) -> bool {
    let ConnectionAddr::Tcp(host, port) = client.get_connection_info().addr() else { return false };
    let Ok(mut connection) = TcpStream::connect((host.as_str(), *port)).await else { return false };
    let mut answer = [0; DENIED.len()];
    connection.read_exact(&mut answer).await.is_ok() && answer == *DENIED
}
