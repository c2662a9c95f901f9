//! The deadlines of a connection: for the headers of a request, for the next request, and for reading the response. The stream
//! and the bodies of a connection report their progress to the deadlines. Drover has its own deadlines, because hyper has no
//! deadline for a client that does not read its response, and needs a timer per request for the deadline of the headers. The
//! stream wrappers of other libraries do not report blocked writes.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::limits::Limits;

/// The number of bytes of a response that a client must read within each write time-out. Without a minimum of bytes, a client
/// that reads single bytes could keep its response open for ever.
const MIN_READ_BYTES: usize = 64 * 1024;

/// The deadlines of a connection, which depend on its phase and the start of the phase.
///
/// Only the connection's own task uses the deadlines, so the lock is never contended. The connection's task polls the
/// connection first and [`poll_too_slow`](Self::poll_too_slow) second, so the task misses no change of a deadline.
pub(super) struct Deadlines {
    limits: Limits,
    state: Mutex<DeadlineState>,
}

struct DeadlineState {
    phase: Phase,
    /// The blocked write to a client that reads slowly; `None` again when the client has read enough.
    slow_write: Option<SlowWrite>,
    /// Whether the body of the latest request was dropped before its end.
    has_unread_body: bool,
}

enum Phase {
    /// The headers of a request are being received. A new connection begins in this phase.
    Headers { since: Instant },
    /// A request is being answered. While a request is being answered, the time limits of its route apply.
    Answering,
    /// No byte of the next request was received yet.
    Idle { since: Instant },
}

struct SlowWrite {
    since: Instant,
    /// The number of bytes that the socket has accepted since the write was blocked.
    accepted_bytes: usize,
}

/// The reason why a client was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooSlow {
    Headers,
    Idle,
    ReadingResponse,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Headers => "the headers of the request were not complete in time",
            Self::Idle => "the connection was idle",
            Self::ReadingResponse => "the client did not read its answer in time",
        })
    }
}

impl Deadlines {
    pub(super) fn new(limits: Limits) -> Self {
        let phase = Phase::Headers { since: Instant::now() };
        Self { limits, state: Mutex::new(DeadlineState { phase, slow_write: None, has_unread_body: false }) }
    }

    /// Notes that bytes were received.
    fn note_received(&self) {
        let mut state = self.state.lock();
        if let Phase::Idle { .. } = state.phase {
            state.phase = Phase::Headers { since: Instant::now() };
        }
    }

    /// Notes that the headers of a request are complete.
    pub(super) fn note_headers_complete(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Answering;
        state.has_unread_body = false;
    }

    /// Notes that the request's body was dropped before its end.
    fn note_body_dropped(&self) {
        self.state.lock().has_unread_body = true;
    }

    /// Returns whether the client may still send the rest of the body of an answered request.
    pub(super) fn has_unread_body(&self) -> bool {
        self.state.lock().has_unread_body
    }

    /// Notes that the response is complete. The last bytes of the response may not be written yet.
    fn note_response_complete(&self) {
        self.state.lock().phase = Phase::Idle { since: Instant::now() };
    }

    /// Notes that a write to the socket is blocked.
    fn note_blocked_write(&self) {
        self.state.lock().slow_write.get_or_insert_with(|| SlowWrite { since: Instant::now(), accepted_bytes: 0 });
    }

    /// Notes that the socket accepted this many bytes.
    fn note_accepted_bytes(&self, bytes: usize) {
        let mut state = self.state.lock();
        if let Some(slow_write) = &mut state.slow_write {
            slow_write.accepted_bytes += bytes;
            if slow_write.accepted_bytes >= MIN_READ_BYTES {
                state.slow_write = None;
            }
        }
    }

    /// Notes that the socket accepted all pending bytes.
    fn note_all_bytes_flushed(&self) {
        self.state.lock().slow_write = None;
    }

    /// Returns `Ready` when the client was too slow. The timer of the deadline is reset only when it fires or would fire too late,
    /// not for each request.
    pub(super) fn poll_too_slow(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<TooSlow> {
        // If the connection has no deadline now, `poll_too_slow` stays pending; a later poll of the connection may set
        // a deadline.
        while let Some((due, reason)) = self.deadline() {
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(reason);
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn deadline(&self) -> Option<(Instant, TooSlow)> {
        let state = self.state.lock();
        let phase = match state.phase {
            Phase::Headers { since } => Some((since + self.limits.header_timeout, TooSlow::Headers)),
            Phase::Idle { since } => Some((since + self.limits.idle_timeout, TooSlow::Idle)),
            Phase::Answering => None,
        };
        // A client that must still read its response has the deadline for reading, and not the deadline of an idle
        // connection.
        match &state.slow_write {
            Some(slow_write) => Some((slow_write.since + self.limits.write_timeout, TooSlow::ReadingResponse)),
            None => phase,
        }
    }
}

/// A stream that reports received bytes, written bytes and blocked writes to the deadlines.
pub(super) struct WatchedStream<S> {
    pub(super) stream: S,
    pub(super) deadlines: Arc<Deadlines>,
}

impl<S> WatchedStream<S> {
    fn note_write_result(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.deadlines.note_accepted_bytes(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.deadlines.note_blocked_write(),
        }
        written
    }

    /// Notes a flush. hyper flushes when it has handed all bytes to the stream.
    fn note_flush_result(&self, flush_result: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if flush_result.is_ready() {
            self.deadlines.note_all_bytes_flushed();
        } else {
            self.deadlines.note_blocked_write();
        }
        flush_result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled_before = buf.filled().len();
        let read_result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > filled_before {
            self.deadlines.note_received();
        }
        read_result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let write_result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write_result(write_result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write_result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write_result(write_result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush_result = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_flush_result(flush_result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let close_result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note_flush_result(close_result)
    }
}

/// The body of a request, which reports to the deadlines when it is dropped before its end.
pub(super) struct RequestBody {
    body: Incoming,
    deadlines: Arc<Deadlines>,
    has_ended: bool,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, deadlines: Arc<Deadlines>) -> Self {
        Self { body, deadlines, has_ended: false }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.has_ended && !self.body.is_end_stream() {
            self.deadlines.note_body_dropped();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.has_ended |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reports the end of a response when the guard is dropped. The response's body owns its `ResponseGuard`, and hyper drops the
/// body after its last frame.
pub(super) struct ResponseGuard(pub(super) Arc<Deadlines>);

impl Drop for ResponseGuard {
    fn drop(&mut self) {
        self.0.note_response_complete();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, time::Duration};

    use tokio::time::{advance, sleep, timeout};

    use super::*;

    fn deadlines() -> Deadlines {
        Deadlines::new(Limits::default())
    }

    /// Waits up to an hour for the client to miss a deadline. Returns the reason why the client was too slow, and after how many
    /// seconds.
    async fn wait_until_too_slow(deadlines: &Deadlines) -> Option<(TooSlow, u64)> {
        let start = Instant::now();
        let mut timer = pin!(sleep(Duration::from_secs(3_600)));
        let wait_result =
            timeout(Duration::from_secs(3_600), poll_fn(|cx| deadlines.poll_too_slow(timer.as_mut(), cx))).await;
        wait_result.ok().map(|reason| (reason, start.elapsed().as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_of_a_connection_has_its_deadline() {
        let deadlines = deadlines();
        assert_eq!(wait_until_too_slow(&deadlines).await, Some((TooSlow::Headers, 10)), "the client sent no headers");
        deadlines.note_headers_complete();
        assert_eq!(wait_until_too_slow(&deadlines).await, None, "a handler has no deadline");
        deadlines.note_response_complete();
        assert_eq!(wait_until_too_slow(&deadlines).await, Some((TooSlow::Idle, 75)));
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_of_headers_is_not_extended_by_single_bytes() {
        let deadlines = deadlines();
        deadlines.note_headers_complete();
        deadlines.note_response_complete();
        advance(Duration::from_secs(70)).await;
        deadlines.note_received();
        advance(Duration::from_secs(6)).await;
        deadlines.note_received();
        assert_eq!(wait_until_too_slow(&deadlines).await, Some((TooSlow::Headers, 4)));
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_reads_its_response_too_slowly_is_reported() {
        let deadlines = deadlines();
        deadlines.note_headers_complete();
        deadlines.note_blocked_write();
        advance(Duration::from_secs(20)).await;
        deadlines.note_accepted_bytes(MIN_READ_BYTES - 1);
        deadlines.note_blocked_write();
        assert_eq!(wait_until_too_slow(&deadlines).await, Some((TooSlow::ReadingResponse, 10)), "one byte is missing");
        deadlines.note_accepted_bytes(1);
        assert_eq!(wait_until_too_slow(&deadlines).await, None, "the client has read enough");
        deadlines.note_blocked_write();
        deadlines.note_response_complete();
        assert_eq!(wait_until_too_slow(&deadlines).await, Some((TooSlow::ReadingResponse, 30)), "nothing more is read");
        deadlines.note_all_bytes_flushed();
        assert_eq!(wait_until_too_slow(&deadlines).await.map(|(reason, _)| reason), Some(TooSlow::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn timer_that_fires_for_a_past_phase_of_a_connection_is_reset() {
        let deadlines = deadlines();
        let mut timer = pin!(sleep(Duration::from_secs(10)));
        let start = Instant::now();
        deadlines.note_headers_complete();
        advance(Duration::from_secs(9)).await;
        deadlines.note_response_complete();
        let reason = poll_fn(|cx| deadlines.poll_too_slow(timer.as_mut(), cx)).await;
        assert_eq!((reason, start.elapsed().as_secs()), (TooSlow::Idle, 84));
    }
}
