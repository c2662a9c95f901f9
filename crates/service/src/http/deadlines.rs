//! The deadlines of a connection: for the headers of a request, for the next request, and for reading the answer. A stream and
//! the bodies report to them what the client does. They are ours because hyper has no deadline for a client that does not read,
//! its deadline for headers would cost each request a timer, and the inspecting streams of libraries do not report that a write
//! waits.

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

use super::Limits;

/// The bytes of its answer that a client must take within each write time-out. With a smaller number, a client that takes a byte
/// now and then could hold its answer for ever.
const TAKEN_AT_LEAST: usize = 64 * 1024;

/// The deadlines of a connection: its phase, and the beginning of the phase.
///
/// All of it happens within the connection's own task. So nothing waits for the lock, and a task that polls the connection
/// and then [`poll_too_slow`](Self::poll_too_slow) misses nothing.
pub(super) struct Deadlines {
    limits: Limits,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Set while the client takes nothing, or too little, of what is written.
    stuck: Option<Stuck>,
    /// Whether the body of the latest request was dropped before its end.
    has_unread_body: bool,
}

enum Phase {
    /// Headers come in. A new connection begins here: it has no reason to wait.
    Headers { since: Instant },
    /// A request is answered. Its own time limits apply.
    Answering,
    /// Nothing of the next request has come.
    Idle { since: Instant },
}

struct Stuck {
    since: Instant,
    taken: usize,
}

/// The thing that a client was too slow at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooSlow {
    Headers,
    Idle,
    TakingItsAnswer,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Headers => "the headers of its request were not complete in time",
            Self::Idle => "it was idle",
            Self::TakingItsAnswer => "it did not take its answer",
        })
    }
}

impl Deadlines {
    pub(super) fn new(limits: Limits) -> Self {
        let phase = Phase::Headers { since: Instant::now() };
        Self { limits, state: Mutex::new(State { phase, stuck: None, has_unread_body: false }) }
    }

    /// Bytes came in.
    fn received(&self) {
        let mut state = self.state.lock();
        if let Phase::Idle { .. } = state.phase {
            state.phase = Phase::Headers { since: Instant::now() };
        }
    }

    /// A request's headers are complete.
    pub(super) fn answering(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Answering;
        state.has_unread_body = false;
    }

    /// The body of the request was dropped before its end.
    fn body_dropped(&self) {
        self.state.lock().has_unread_body = true;
    }

    /// Whether the client may still send the rest of the body of an answered request.
    pub(super) fn has_unread_body(&self) -> bool {
        self.state.lock().has_unread_body
    }

    /// The response is complete; only its remaining bytes must be written.
    fn answered(&self) {
        self.state.lock().phase = Phase::Idle { since: Instant::now() };
    }

    /// The socket accepts no more bytes now.
    fn write_blocked(&self) {
        self.state.lock().stuck.get_or_insert_with(|| Stuck { since: Instant::now(), taken: 0 });
    }

    /// The socket accepted this many bytes.
    fn wrote(&self, bytes: usize) {
        let mut state = self.state.lock();
        if let Some(stuck) = &mut state.stuck {
            stuck.taken += bytes;
            if stuck.taken >= TAKEN_AT_LEAST {
                state.stuck = None;
            }
        }
    }

    /// The socket accepted all pending bytes.
    fn flushed(&self) {
        self.state.lock().stuck = None;
    }

    /// Ready when the client was too slow. The timer is set anew only when it fires or would fire too late, not with each
    /// request: most requests cost nothing here.
    pub(super) fn poll_too_slow(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<TooSlow> {
        // Without a deadline there is nothing to wait for: only a poll of the connection can set one.
        while let Some((due, what)) = self.deadline() {
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            ready!(timer.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(what);
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
        // A client that still has to take its answer is not idle.
        match &state.stuck {
            Some(stuck) => Some((stuck.since + self.limits.write_timeout, TooSlow::TakingItsAnswer)),
            None => phase,
        }
    }
}

/// A stream that reports to the deadlines which bytes come in and which the client takes.
pub(super) struct WatchedStream<S> {
    pub(super) stream: S,
    pub(super) deadlines: Arc<Deadlines>,
}

impl<S> WatchedStream<S> {
    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => self.deadlines.wrote(*bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.deadlines.write_blocked(),
        }
        written
    }

    /// A flush is called when everything was handed to the stream.
    fn note_flush(&self, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if flushed.is_ready() {
            self.deadlines.flushed();
        } else {
            self.deadlines.write_blocked();
        }
        flushed
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.deadlines.received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note_flush(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note_flush(closed)
    }
}

/// The body of a request, which reports that it is given up before its end.
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
            self.deadlines.body_dropped();
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

/// Reports, when it is dropped, that the answer is over. It belongs to the body of the answer, which is dropped as soon as its end
/// was handed on.
pub(super) struct AnswerGuard(pub(super) Arc<Deadlines>);

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.0.answered();
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

    /// The thing that it was too slow at, and after how many seconds; nothing within an hour.
    async fn too_slow(deadlines: &Deadlines) -> Option<(TooSlow, u64)> {
        let start = Instant::now();
        let mut timer = pin!(sleep(Duration::from_secs(3_600)));
        let waited =
            timeout(Duration::from_secs(3_600), poll_fn(|cx| deadlines.poll_too_slow(timer.as_mut(), cx))).await;
        waited.ok().map(|what| (what, start.elapsed().as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_deadline() {
        let deadlines = deadlines();
        assert_eq!(too_slow(&deadlines).await, Some((TooSlow::Headers, 10)), "nothing was sent");
        deadlines.answering();
        assert_eq!(too_slow(&deadlines).await, None, "an answer may take its time");
        deadlines.answered();
        assert_eq!(too_slow(&deadlines).await, Some((TooSlow::Idle, 75)));
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_come_byte_by_byte_get_no_more_time() {
        let deadlines = deadlines();
        deadlines.answering();
        deadlines.answered();
        advance(Duration::from_secs(70)).await;
        deadlines.received();
        advance(Duration::from_secs(6)).await;
        deadlines.received();
        assert_eq!(too_slow(&deadlines).await, Some((TooSlow::Headers, 4)));
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_takes_its_answer_too_slowly_is_reported() {
        let deadlines = deadlines();
        deadlines.answering();
        deadlines.write_blocked();
        advance(Duration::from_secs(20)).await;
        deadlines.wrote(TAKEN_AT_LEAST - 1);
        deadlines.write_blocked();
        assert_eq!(too_slow(&deadlines).await, Some((TooSlow::TakingItsAnswer, 10)), "too little");
        deadlines.wrote(1);
        assert_eq!(too_slow(&deadlines).await, None, "enough");
        deadlines.write_blocked();
        deadlines.answered();
        assert_eq!(too_slow(&deadlines).await, Some((TooSlow::TakingItsAnswer, 30)), "again too little");
        deadlines.flushed();
        assert_eq!(too_slow(&deadlines).await.map(|(what, _)| what), Some(TooSlow::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn timer_that_fires_for_a_past_phase_is_set_anew() {
        let deadlines = deadlines();
        let mut timer = pin!(sleep(Duration::from_secs(10)));
        let start = Instant::now();
        deadlines.answering();
        advance(Duration::from_secs(9)).await;
        deadlines.answered();
        let what = poll_fn(|cx| deadlines.poll_too_slow(timer.as_mut(), cx)).await;
        assert_eq!((what, start.elapsed().as_secs()), (TooSlow::Idle, 84));
    }
}
