//! One connection: how its requests are answered, in which time, and how it ends. hyper reads and writes HTTP/1.1, and refuses by
//! itself what is no HTTP; the deadlines and the end of a connection are ours, because hyper's server cuts off no client that does
//! not read its answer.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{self, pin},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink},
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use tracing::debug;

use super::{
    Limits, Peer,
    deadlines::{AnswerGuard, Deadlines, RequestBody, WatchedStream},
    request_checks::refusal_of_encoding,
};

/// One client, from its first byte to its last.
pub(super) struct Connection {
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) peer: Arc<Peer>,
}

impl Connection {
    pub(super) async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Answers are written whole: to wait for more would gain nothing.
        let _ = stream.set_nodelay(true);
        bound_unsent(&stream);
        let Some(tls) = tls else {
            return self.answer(stream, Transport::Plain).await;
        };
        let handshake = timeout(self.limits.header_timeout, tls.accept(stream));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = self.peer.stopping().cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.answer(stream, Transport::Tls).await,
            Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake was not complete in time"),
        }
    }

    /// Answers requests until the client goes or is too slow. When the service stops, or this connection must make room for
    /// another one, the request under way is the last.
    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send, transport: Transport) {
        let deadlines = Arc::new(Deadlines::new(self.limits));
        let service = service_fn(|request: Request<Incoming>| {
            deadlines.answering();
            let keep_alive = KeepAlive::after(&request);
            let mut request = request.map(|body| RequestBody::new(body, Arc::clone(&deadlines)));
            request.extensions_mut().insert(Arc::clone(&self.peer));
            let refusal = match keep_alive {
                KeepAlive::Yes => None,
                KeepAlive::No => refusal_of_encoding(&request),
            };
            let refusal = refusal.or_else(|| self.limits.hosts.refusal(&request));
            let answer = self.router.clone().call(request);
            let deadlines = Arc::clone(&deadlines);
            async move {
                let mut answer = match refusal {
                    Some(refusal) => {
                        drop(answer); // And with it the body of the request, which is not read.
                        refusal
                    }
                    None => answer.await?,
                };
                protect(answer.headers_mut(), transport);
                // The server does not read the rest of a body that it did not need. Without this header a client may send its next
                // request over a connection that is being closed, and never learn its outcome.
                if keep_alive == KeepAlive::No || deadlines.has_unread_body() {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                let guard = AnswerGuard(deadlines);
                Ok::<_, Infallible>(answer.map(|body| {
                    body.map_err(move |error| {
                        let _lives_as_long = &guard;
                        error
                    })
                }))
            }
        });
        let stream = TokioIo::new(WatchedStream { stream, deadlines: Arc::clone(&deadlines) });
        let mut connection = protocol().serve_connection(stream, service);
        let mut timer = pin!(sleep(self.limits.header_timeout));
        let mut stop = pin!(self.peer.stopping().cancelled());
        let (mut is_last, mut speaks_http2) = (false, false);
        let mut end = None;
        let is_fully_read = loop {
            tokio::select! {
                biased;
                ended = &mut connection => match ended {
                    Ok(()) => break !deadlines.has_unread_body(),
                    Err(error) => {
                        debug!(%error, "a connection broke");
                        speaks_http2 = error.is_parse_version_h2();
                        break false;
                    }
                },
                () = &mut stop, if !is_last => {
                    is_last = true;
                    pin::Pin::new(&mut connection).graceful_shutdown();
                    // The server itself ends the grace of a stop.
                    end = self.peer.is_displaced().then(|| Instant::now() + DISPLACED_WITHIN);
                }
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    debug!("a connection that had to make room was closed before its answer was complete");
                    return;
                }
                slow = poll_fn(|cx| deadlines.poll_too_slow(timer.as_mut(), cx)) => {
                    debug!("a connection was closed: {slow}");
                    return;
                }
            }
        };
        if !is_fully_read {
            let mut stream = connection.into_parts().io.into_inner().stream;
            if speaks_http2 {
                // hyper leaves the answer to its user, who might go on with HTTP/2.
                let _ = timeout(self.limits.write_timeout, stream.write_all(NO_HTTP2)).await;
            }
            tokio::select! {
                _ = timeout(self.limits.header_timeout, hear_out(stream)) => {}
                () = stop => {}
            }
        }
    }
}

/// Throws away the bytes that a client still sends after its answer. To close at once would reset the connection, and a client that
/// writes its whole request before it reads would meet the reset and never the answer.
async fn hear_out(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_ok() {
        let _ = copy(&mut stream, &mut sink()).await;
    }
}

/// The answer to a client that begins to speak HTTP/2.
const NO_HTTP2: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The time that a connection has to finish its last response when it is closed to make room for another one.
const DISPLACED_WITHIN: Duration = Duration::from_secs(1);

/// Bounds the bytes of an answer that the kernel holds unsent. Without a bound it would hold megabytes for each client that does
/// not read. The bytes on their way have no bound here: fast clients need them.
#[cfg(target_os = "linux")]
fn bound_unsent(stream: &TcpStream) {
    const MOST_UNSENT: u32 = 128 * 1024;
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(MOST_UNSENT);
}

#[cfg(not(target_os = "linux"))]
fn bound_unsent(_: &TcpStream) {}

/// The bytes that a connection buffers on either side, read or to be written: as much as headers may have.
const BUFFER_BYTES: usize = Limits::HEADER_BYTES;

/// HTTP/1.1 and nothing else. The time-outs are those of [`Deadlines`]; hyper's own would cost every request a new timer, and
/// can't tell an idle connection from slow headers. hyper's limit of 100 headers stays: to set one costs every request an
/// allocation. A client that closes its half of the connection counts as gone, so that a request that waits is dropped.
fn protocol() -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        .header_read_timeout(None)
        .max_header_size(Limits::HEADER_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .half_close(false);
    protocol
}

/// Whether a connection may serve another request.
#[derive(PartialEq, Eq)]
enum KeepAlive {
    Yes,
    No,
}

impl KeepAlive {
    /// A request with a length besides its transfer encoding can smuggle another one past a proxy. hyper goes by the encoding
    /// and hides the length; the bytes after such a request must not be read as another one (RFC 9112, 6.1). As it looks
    /// like an honest one, the connection ends after every chunked request.
    fn after<B>(request: &Request<B>) -> Self {
        if request.headers().contains_key(header::TRANSFER_ENCODING) { Self::No } else { Self::Yes }
    }
}

/// The transport of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
}

/// The headers of every answer that protect browsers, unless its route sets them: it is data and not a page, and must not be
/// kept or framed.
const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];

/// Only over TLS: a browser must ignore it over plain HTTP.
const A_YEAR_OF_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds the headers that protect browsers and the people who use them.
fn protect(headers: &mut HeaderMap, transport: Transport) {
    headers.reserve(ALWAYS.len() + 1);
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(value);
    }
    if transport == Transport::Tls {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(A_YEAR_OF_TLS);
    }
}
