//! Finds out why a server closes new connections: the server is in protected mode, because it has no password, or it requires TLS.

use std::time::Duration;

use deadpool_redis::redis::RedisError;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::{
    error::{Error, PROTECTED_MODE},
    redis::endpoint::{Address, Endpoint},
};

/// The first bytes that a Redis in protected mode sends before it closes a connection.
const DENIED_ERROR: &[u8; 7] = b"-DENIED";
/// The maximum wait for [`DENIED_ERROR`]. Redis sends [`DENIED_ERROR`] at once, but a busy machine may delay it. The wait for
/// [`DENIED_ERROR`] is shorter than the default time limit of a call. So for a server that sends nothing, the error of the first
/// connection is reported, and not a timeout.
const MAX_WAIT_FOR_DENIED_ERROR: Duration = Duration::from_secs(1);

/// Returns an error that says why a connection failed. Redis in protected mode closes a connection without reading from it, so a
/// client that has already written sees a reset and not the reason. `explain_connect_error` reads the reason of the closing over a
/// second connection, over which it sends nothing.
pub(crate) async fn explain_connect_error(error: RedisError, endpoint: &Endpoint) -> Error {
    let is_closed = error.is_io_error() && !error.is_connection_refusal() && !error.is_timeout();
    if is_closed && timeout(MAX_WAIT_FOR_DENIED_ERROR, is_denied(endpoint)).await.unwrap_or(false) {
        return Error::Unavailable(PROTECTED_MODE.into());
    }
    if is_closed && endpoint.tls.is_none() && matches!(endpoint.address, Address::Tcp(..)) {
        return Error::Unavailable(format!(
            "the server closed the new connection ({error}); if it wants TLS, write rediss:// in redis.url"
        ));
    }
    error.into()
}

async fn is_denied(endpoint: &Endpoint) -> bool {
    let (Address::Tcp(host, port), None) = (&endpoint.address, &endpoint.tls) else { return false };
    let Ok(mut connection) = TcpStream::connect((host.as_str(), *port)).await else { return false };
    let mut answer = [0; DENIED_ERROR.len()];
    connection.read_exact(&mut answer).await.is_ok() && answer == *DENIED_ERROR
}
