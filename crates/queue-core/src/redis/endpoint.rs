//! The address, the user and the TLS with which a process connects to one Redis server, and the opening of connections.

use std::{fmt, io, path::PathBuf, sync::Arc};

use deadpool_redis::redis::{
    self, AsyncConnectionConfig, RedisConnectionInfo, RedisResult, Value,
    aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream},
};
use futures_util::future::select_ok;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_util::{either::Either, task::AbortOnDropHandle};

use crate::redis::{
    socket::{CountedSocket, SystemSocket, Traffic},
    tls::TlsClient,
};

/// One Redis server, and how to connect to it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    /// The user, the password and the number of the database.
    pub(crate) login: RedisConnectionInfo,
    /// The certificates, if the connections use TLS.
    pub(crate) tls: Option<Arc<TlsClient>>,
}

/// The address at which a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// A host (a name or an IP address) and a port.
    Tcp(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Returns the host; `None` for a Unix socket.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp(host, _) => Some(host),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// An open connection, and the task that drives its socket.
pub(crate) struct OpenConnection {
    pub(crate) multiplexed: MultiplexedConnection,
    pub(crate) traffic: Arc<Traffic>,
    /// The handle of the task that drives the socket of this connection. The task ends when this handle is dropped.
    pub(crate) driver: AbortOnDropHandle<()>,
}

impl Endpoint {
    /// Opens a connection for calls. The caller limits the time for opening the connection, and the time of each call.
    pub(crate) async fn open(&self) -> RedisResult<OpenConnection> {
        let socket = self.connect().await?;
        let traffic = socket.traffic();
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (multiplexed, driver) = MultiplexedConnection::new_with_config(&self.login, socket, config).await?;
        let driver = tokio::spawn({
            let traffic = Arc::clone(&traffic);
            async move {
                driver.await;
                traffic.close();
            }
        });
        let mut open_connection = OpenConnection { multiplexed, traffic, driver: AbortOnDropHandle::new(driver) };
        if self.has_no_login() {
            require_answer(redis::cmd("PING").query_async(&mut open_connection.multiplexed).await)?;
        }
        Ok(open_connection)
    }

    /// Opens a connection for subscriptions. The caller limits the time for opening the connection.
    pub(crate) async fn open_for_subscriptions(&self) -> RedisResult<(PubSubSink, PubSubStream)> {
        let (mut sink, messages) = PubSub::new(&self.login, self.connect().await?).await?.split();
        if self.has_no_login() {
            require_answer(sink.ping().await)?;
        }
        Ok((sink, messages))
    }

    /// Whether the client library sends nothing to the server when it opens a connection. If the client library sends nothing,
    /// `open` sends a PING over the new connection. A server that hangs or refuses clients accepts connections too, and a call that
    /// was written to such a server could not be sent again.
    fn has_no_login(&self) -> bool {
        self.login.password().is_none()
    }

    async fn connect(&self) -> io::Result<CountedSocket> {
        let (host, port) = match &self.address {
            Address::Tcp(host, port) => (host, *port),
            Address::Unix(path) => {
                return Ok(CountedSocket::plain(SystemSocket::new(Either::Right(UnixStream::connect(path).await?))));
            }
        };
        let socket = SystemSocket::new(Either::Left(connect_tcp(host, port).await?));
        Ok(match &self.tls {
            Some(tls) => CountedSocket::tls(tls.connect(host, socket).await?),
            None => CountedSocket::plain(socket),
        })
    }
}

/// Fails if a server did not answer, or refuses all clients (`DENIED`). Other errors of the PING are ignored, because the first
/// call over the connection returns them.
fn require_answer(answer: RedisResult<Value>) -> RedisResult<()> {
    match answer {
        Err(error) if error.code().is_none_or(|code| code == "DENIED") => Err(error),
        _ => Ok(()),
    }
}

/// Connects to all addresses of the host at once, and keeps the connection that is open first.
async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let attempts: Vec<_> =
        lookup_host((host, port)).await?.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if attempts.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
