//! Serves one connection: answers its requests, enforces its deadlines, and closes the connection. hyper reads and writes
//! HTTP/1.1, and refuses invalid HTTP. The module `connection` adds deadlines and the closing of connections, because hyper
//! never disconnects a client that does not read its response.

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
    deadlines::{Deadlines, RequestBody, ResponseGuard, WatchedStream},
    limits::Limits,
    peer::Peer,
    request_checks::refusal_of_encoding,
};

/// One connection, with the router that answers its requests, its limits and its client.
pub(super) struct Connection {
    pub(super) router: Router,
    pub(super) limits: Limits,
    pub(super) peer: Arc<Peer>,
}

impl Connection {
    pub(super) async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Nagle's algorithm is switched off, because responses are written in one piece.
        let _ = stream.set_nodelay(true);
        limit_unsent_bytes(&stream);
        let Some(tls) = tls else {
            return self.answer_requests(stream, Transport::Plain).await;
        };
        let tls_handshake = timeout(self.limits.header_timeout, tls.accept(stream));
        let handshake_result = tokio::select! {
            handshake_result = tls_handshake => handshake_result,
            () = self.peer.stop_token().cancelled() => return,
        };
        match handshake_result {
            Ok(Ok(stream)) => self.answer_requests(stream, Transport::Tls).await,
            Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake was not complete in time"),
        }
    }

    /// Answers requests until the client disconnects or is too slow. When the service stops or the connection is displaced, the
    /// connection closes after the current request.
    async fn answer_requests(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send, transport: Transport) {
        let deadlines = Arc::new(Deadlines::new(self.limits));
        let service = service_fn(|request: Request<Incoming>| {
            deadlines.note_headers_complete();
            let keep_alive = KeepAlive::decide_after_request(&request);
            let mut request = request.map(|body| RequestBody::new(body, Arc::clone(&deadlines)));
            request.extensions_mut().insert(Arc::clone(&self.peer));
            let refusal = match keep_alive {
                KeepAlive::Yes => None,
                KeepAlive::No => refusal_of_encoding(&request),
            };
            let refusal = refusal.or_else(|| self.limits.hosts.refusal(&request));
            let response_future = self.router.clone().call(request);
            let deadlines = Arc::clone(&deadlines);
            async move {
                let mut response = match refusal {
                    Some(refusal) => {
                        drop(response_future); // With this future the request's body is dropped, which is not read.
                        refusal
                    }
                    None => response_future.await?,
                };
                add_security_headers(response.headers_mut(), transport);
                // If the handler did not need the whole body of a request, the server does not read the rest of the body,
                // and closes the connection. Without the header `connection: close`, the client could send another request
                // on the closing connection, and never learn the outcome of the request.
                if keep_alive == KeepAlive::No || deadlines.has_unread_body() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                let guard = ResponseGuard(deadlines);
                Ok::<_, Infallible>(response.map(|body| {
                    body.map_err(move |error| {
                        let _kept_with_the_body = &guard;
                        error
                    })
                }))
            }
        });
        let stream = TokioIo::new(WatchedStream { stream, deadlines: Arc::clone(&deadlines) });
        let mut connection = http1_settings().serve_connection(stream, service);
        let mut timer = pin!(sleep(self.limits.header_timeout));
        let mut stop_signal = pin!(self.peer.stop_token().cancelled());
        let (mut is_stopping, mut speaks_http2) = (false, false);
        let mut displaced_deadline = None;
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
                () = &mut stop_signal, if !is_stopping => {
                    is_stopping = true;
                    pin::Pin::new(&mut connection).graceful_shutdown();
                    // `DISPLACED_CONNECTION_GRACE` is the time limit of a connection that closes to make room for a new
                    // connection. At a shutdown, `Server` enforces the grace period for all connections.
                    let is_displaced = self.peer.is_displaced_by_new_connection();
                    displaced_deadline = is_displaced.then(|| Instant::now() + DISPLACED_CONNECTION_GRACE);
                }
                () = sleep_until(displaced_deadline.unwrap_or_else(Instant::now)), if displaced_deadline.is_some() => {
                    debug!("a displaced connection was closed before its answer was complete");
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
                // hyper sends no response to a client that starts HTTP/2, so that a server may switch to HTTP/2. Drover does not
                // switch to HTTP/2, and sends a refusal.
                let _ = timeout(self.limits.write_timeout, stream.write_all(HTTP2_REFUSAL)).await;
            }
            tokio::select! {
                _ = timeout(self.limits.header_timeout, drain_client(stream)) => {}
                () = stop_signal => {}
            }
        }
    }
}

/// Reads and discards the bytes that a client still sends after the response. Closing the connection at once would reset it,
/// and a client that writes its whole request before it reads would get the reset and not the response.
async fn drain_client(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_ok() {
        let _ = copy(&mut stream, &mut sink()).await;
    }
}

/// The response to a client that starts HTTP/2.
const HTTP2_REFUSAL: &[u8] =
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The time that a connection that is closed to make room for a new connection has to finish its last response.
const DISPLACED_CONNECTION_GRACE: Duration = Duration::from_secs(1);

/// Limits the unsent bytes that the kernel buffers. Without a limit the kernel buffers megabytes for each client that does not
/// read. Sent but unacknowledged bytes are not limited, because fast connections need many of them.
#[cfg(target_os = "linux")]
fn limit_unsent_bytes(stream: &TcpStream) {
    const MAX_UNSENT_BYTES: u32 = 128 * 1024;
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
}

#[cfg(not(target_os = "linux"))]
fn limit_unsent_bytes(_: &TcpStream) {}

/// The size of a connection's read buffer and of its write buffer: the maximum size of the headers.
const BUFFER_BYTES: usize = Limits::MAX_HEADER_BYTES;

/// Returns hyper's settings, for HTTP/1.1 only. [`Deadlines`] implements the time-outs, because hyper's time-outs would cost a
/// timer per request and can't distinguish an idle connection from slow headers. hyper's default limit of 100 headers applies,
/// because setting a limit costs an allocation per request. A client that closes its sending half counts as disconnected, so
/// that its waiting request is dropped.
fn http1_settings() -> http1::Builder {
    let mut http1_settings = http1::Builder::new();
    http1_settings
        .header_read_timeout(None)
        .max_header_size(Limits::MAX_HEADER_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .half_close(false);
    http1_settings
}

/// Whether a connection may serve another request.
#[derive(PartialEq, Eq)]
enum KeepAlive {
    Yes,
    No,
}

impl KeepAlive {
    /// Returns whether the connection may serve another request after this request. A request with both `content-length` and
    /// `transfer-encoding` can smuggle a second request past a proxy, so the bytes after the first request must not be read as
    /// a request (RFC 9112, 6.1). A connection closes after every chunked request, because hyper hides the `content-length` of
    /// a chunked request, so that a request with both headers can't be recognized.
    fn decide_after_request<B>(request: &Request<B>) -> Self {
        if request.headers().contains_key(header::TRANSFER_ENCODING) { Self::No } else { Self::Yes }
    }
}

/// The transport of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
}

/// The security headers of every response whose route does not set security headers. The headers tell browsers not to cache
/// a response, not to guess its content type, and not to show it in a frame.
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];

/// The header `Strict-Transport-Security`, sent only over TLS, because browsers ignore it over plain HTTP.
const HSTS_ONE_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds the security headers to the headers of a response.
fn add_security_headers(headers: &mut HeaderMap, transport: Transport) {
    headers.reserve(SECURITY_HEADERS.len() + 1);
    for (name, value) in SECURITY_HEADERS {
        headers.entry(name).or_insert(value);
    }
    if transport == Transport::Tls {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(HSTS_ONE_YEAR);
    }
}
