//! The socket under one connection to Redis. It counts the bytes written, and refuses to write if the peer has closed the
//! connection. So after a failed call it is certain whether Redis may have received a part of the call.

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use deadpool_redis::redis::{ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult};
use futures_util::future::select_ok;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, lookup_host},
};
use tokio_util::either::Either;

/// The traffic of a socket so far, for the connection that sends calls over it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    written: AtomicU64,
    closed: AtomicBool,
}

impl Traffic {
    /// How many bytes the kernel has accepted for sending.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Whether nothing will be written any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Notes that nothing will be written any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

type Socket = Either<TcpStream, UnixStream>;

/// A socket that counts its [`Traffic`].
pub(crate) struct CountedSocket {
    socket: Socket,
    traffic: Arc<Traffic>,
    /// Whether nothing was written since the last read. Then perhaps no call is in flight, and Redis may have closed the
    /// connection.
    is_quiet: bool,
}

impl CountedSocket {
    /// Connects to the server that a URL names.
    pub(crate) async fn connect(info: &ConnectionInfo) -> RedisResult<Self> {
        let socket = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Either::Left(connect_tcp(host, *port).await?),
            ConnectionAddr::Unix(path) => Either::Right(UnixStream::connect(path).await?),
            _ => {
                return Err(RedisError::from((
                    ErrorKind::InvalidClientConfig,
                    "this kind of address is not supported",
                )));
            }
        };
        Ok(Self { socket, traffic: Arc::default(), is_quiet: true })
    }

    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Asks the kernel whether the peer has closed the socket. The runtime learns of the close a moment later, and a call that
    /// is written in between would be lost.
    fn peer_has_closed(&self) -> bool {
        let socket = match &self.socket {
            Either::Left(stream) => stream.as_fd(),
            Either::Right(stream) => stream.as_fd(),
        };
        match recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, read)) => read == 0,
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => true,
        }
    }

    fn read_ended(&mut self, is_open: bool) {
        self.is_quiet = true;
        if !is_open {
            self.traffic.close();
        }
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

impl AsyncRead for CountedSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.socket).poll_read(cx, buffer));
        self.read_ended(read.is_ok() && buffer.filled().len() > before);
        Poll::Ready(read)
    }
}

impl AsyncWrite for CountedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_quiet && self.peer_has_closed() {
            self.traffic.close();
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "closed by Redis")));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        match &written {
            Ok(count) => {
                self.is_quiet = false;
                self.traffic.written.fetch_add(*count as u64, Ordering::Release);
            }
            Err(_) => self.traffic.close(),
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
