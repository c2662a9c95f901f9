//! The socket under one connection to Redis, without or with TLS. The socket counts the written bytes, and refuses to write if the peer
//! has closed the connection. From the number of written bytes, the caller knows after a failed call whether Redis may have received a
//! part of the call.

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

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::redis::tls;

/// The traffic of a socket so far, for the connection that sends calls over it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    written: AtomicU64,
    closed: AtomicBool,
}

impl Traffic {
    /// Returns how many bytes the kernel has accepted for sending.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Whether the connection is closed, so that no byte will be written any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Notes that the connection is closed, so that no byte will be written any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// The socket of the operating system, which counts the bytes that the kernel has accepted.
pub(crate) struct SystemSocket {
    socket: Either<TcpStream, UnixStream>,
    traffic: Arc<Traffic>,
}

impl SystemSocket {
    pub(crate) fn new(socket: Either<TcpStream, UnixStream>) -> Self {
        Self { socket, traffic: Arc::default() }
    }

    /// Reads bytes that have arrived, and never waits. The async runtime learns of arrived bytes a moment later than the kernel.
    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let socket = match &self.socket {
            Either::Left(stream) => stream.as_fd(),
            Either::Right(stream) => stream.as_fd(),
        };
        match recv(socket, buffer, flags | RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            received => Ok(received.map(|(_, count)| count)?),
        }
    }
}

/// Reads the bytes that have arrived at a socket, without waiting.
struct ReceivedBytes<'s>(&'s SystemSocket);

impl io::Read for ReceivedBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buffer, RecvFlags::empty())
    }
}

/// A socket that counts its [`Traffic`].
pub(crate) struct CountedSocket {
    stream: SocketStream,
    traffic: Arc<Traffic>,
    /// Whether nothing was written since the last read. If nothing was written since the last read, perhaps no call is in flight,
    /// and Redis may have closed the connection.
    is_quiet: bool,
}

/// A socket without or with TLS.
enum SocketStream {
    Plain(SystemSocket),
    Tls(Box<TlsStream<SystemSocket>>),
}

impl CountedSocket {
    pub(crate) fn plain(socket: SystemSocket) -> Self {
        Self { traffic: Arc::clone(&socket.traffic), stream: SocketStream::Plain(socket), is_quiet: true }
    }

    pub(crate) fn tls(stream: TlsStream<SystemSocket>) -> Self {
        let traffic = Arc::clone(&stream.get_ref().0.traffic);
        Self { traffic, stream: SocketStream::Tls(Box::new(stream)), is_quiet: true }
    }

    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Asks the kernel whether the peer has closed the socket, and if so returns the error to report. The async runtime learns that
    /// the peer has closed the socket a moment later than the kernel, and a call that is written between these moments would be
    /// lost.
    fn peer_close_error(&mut self, cx: &Context<'_>) -> Option<io::Error> {
        let closed_error = || io::Error::new(io::ErrorKind::BrokenPipe, "closed by Redis");
        let received_bytes = match &mut self.stream {
            SocketStream::Plain(socket) => socket.receive(&mut [0], RecvFlags::PEEK),
            SocketStream::Tls(stream) => {
                // A TLS peer announces the close in a message of its own, which only the TLS session can read. The TLS session
                // keeps any data that it has read here, and the task that reads from the socket is woken to take these data.
                let (socket, session) = stream.get_mut();
                let received_bytes = session.read_tls(&mut ReceivedBytes(socket));
                if received_bytes.is_ok() {
                    cx.waker().wake_by_ref();
                    match session.process_new_packets() {
                        Ok(state) if state.peer_has_closed() => return Some(closed_error()),
                        Ok(_) => {}
                        Err(error) => {
                            return Some(tls::explain_tls_error(io::Error::new(io::ErrorKind::BrokenPipe, error)));
                        }
                    }
                }
                received_bytes
            }
        };
        match received_bytes {
            Ok(0) => Some(closed_error()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Some(error),
            _ => None,
        }
    }

    fn note_read_end(&mut self, is_open: bool) {
        self.is_quiet = true;
        if !is_open {
            self.traffic.close();
        }
    }
}

impl AsyncRead for CountedSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled_before = buffer.filled().len();
        let read_result = match &mut self.stream {
            SocketStream::Plain(plain) => ready!(Pin::new(&mut plain.socket).poll_read(cx, buffer)),
            SocketStream::Tls(stream) => ready!(Pin::new(stream).poll_read(cx, buffer)).map_err(tls::explain_tls_error),
        };
        self.note_read_end(read_result.is_ok() && buffer.filled().len() > filled_before);
        Poll::Ready(read_result)
    }
}

impl AsyncWrite for CountedSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_quiet
            && let Some(error) = self.peer_close_error(cx)
        {
            self.traffic.close();
            return Poll::Ready(Err(error));
        }
        let write_result = match &mut self.stream {
            SocketStream::Plain(socket) => ready!(Pin::new(socket).poll_write(cx, bytes)),
            SocketStream::Tls(stream) => ready!(Pin::new(stream).poll_write(cx, bytes)),
        };
        match &write_result {
            Ok(_) => self.is_quiet = false,
            Err(_) => self.traffic.close(),
        }
        Poll::Ready(write_result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            SocketStream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            SocketStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            SocketStream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            SocketStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for SystemSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SystemSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written_bytes = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        if let Ok(count) = &written_bytes {
            self.traffic.written.fetch_add(*count as u64, Ordering::Release);
        }
        Poll::Ready(written_bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
