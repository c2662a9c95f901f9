//! What a connection waits for its client to do, and until when. This is ours because hyper knows no deadline for a client that does
//! not read, and its deadline for headers would cost each request a timer.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::Limits;

/// What a client must take of its answer within each write time-out, in bytes. Less would let one that takes a byte now
/// and then hold its answer for ever.
const TAKEN_AT_LEAST: usize = 64 * 1024;

/// How a connection keeps up: what it is at, and since when.
///
/// All of it happens within the connection's own task. So the lock is never waited for, and whoever polls the connection
/// and then [`Pace::poll_too_slow`] misses nothing.
pub(super) struct Pace {
    limits: Limits,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    /// Since when the client takes nothing, or too little, of what is written.
    stuck: Option<Stuck>,
    /// Whether the body of the latest request was given up before its end.
    is_unheard: bool,
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

/// What a client was too slow at.
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

impl Pace {
    pub(super) fn new(limits: Limits) -> Self {
        let phase = Phase::Headers { since: Instant::now() };
        Self { limits, state: Mutex::new(State { phase, stuck: None, is_unheard: false }) }
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        let mut state = self.state.lock();
        if let Phase::Idle { .. } = state.phase {
            state.phase = Phase::Headers { since: Instant::now() };
        }
    }

    /// A request's headers are complete.
    pub(super) fn answering(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Answering;
        state.is_unheard = false;
    }

    /// The body of the request was given up before its end.
    pub(super) fn unheard(&self) {
        self.state.lock().is_unheard = true;
    }

    /// Whether the client may still send what belongs to a request that has its answer.
    pub(super) fn is_unheard(&self) -> bool {
        self.state.lock().is_unheard
    }

    /// The answer is made; what is left of it is only to be written.
    pub(super) fn answered(&self) {
        self.state.lock().phase = Phase::Idle { since: Instant::now() };
    }

    /// The socket takes no more for now.
    pub(super) fn write_blocked(&self) {
        self.state.lock().stuck.get_or_insert_with(|| Stuck { since: Instant::now(), taken: 0 });
    }

    /// The socket took so many bytes.
    pub(super) fn wrote(&self, bytes: usize) {
        let mut state = self.state.lock();
        if let Some(stuck) = &mut state.stuck {
            stuck.taken += bytes;
            if stuck.taken >= TAKEN_AT_LEAST {
                state.stuck = None;
            }
        }
    }

    /// The socket took all that there was.
    pub(super) fn flushed(&self) {
        self.state.lock().stuck = None;
    }

    /// Ready when the client was too slow. The alarm is set anew only when it rings or would ring too late, not with each
    /// request: most requests cost it nothing.
    pub(super) fn poll_too_slow(&self, mut alarm: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<TooSlow> {
        // Without a deadline there is nothing to wait for: only a poll of the connection can set one.
        while let Some((due, what)) = self.deadline() {
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            ready!(alarm.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(what);
            }
            alarm.as_mut().reset(due);
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
        // What is idle because it still has to take its answer is not idle.
        match &state.stuck {
            Some(stuck) => Some((stuck.since + self.limits.write_timeout, TooSlow::TakingItsAnswer)),
            None => phase,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, time::Duration};

    use tokio::time::{advance, sleep, timeout};

    use super::*;

    fn pace() -> Pace {
        Pace::new(Limits::default())
    }

    /// What it was too slow at, and after how many seconds; nothing within an hour.
    async fn too_slow(pace: &Pace) -> Option<(TooSlow, u64)> {
        let start = Instant::now();
        let mut alarm = pin!(sleep(Duration::from_secs(3_600)));
        let waited = timeout(Duration::from_secs(3_600), poll_fn(|cx| pace.poll_too_slow(alarm.as_mut(), cx))).await;
        waited.ok().map(|what| (what, start.elapsed().as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_time() {
        let pace = pace();
        assert_eq!(too_slow(&pace).await, Some((TooSlow::Headers, 10)), "nothing was sent");
        pace.answering();
        assert_eq!(too_slow(&pace).await, None, "an answer may take its time");
        pace.answered();
        assert_eq!(too_slow(&pace).await, Some((TooSlow::Idle, 75)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_give_headers_more_time() {
        let pace = pace();
        pace.answering();
        pace.answered();
        advance(Duration::from_secs(70)).await;
        pace.received();
        advance(Duration::from_secs(6)).await;
        pace.received();
        assert_eq!(too_slow(&pace).await, Some((TooSlow::Headers, 4)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_must_be_taken_at_a_least_rate() {
        let pace = pace();
        pace.answering();
        pace.write_blocked();
        advance(Duration::from_secs(20)).await;
        pace.wrote(TAKEN_AT_LEAST - 1);
        pace.write_blocked();
        assert_eq!(too_slow(&pace).await, Some((TooSlow::TakingItsAnswer, 10)), "too little");
        pace.wrote(1);
        assert_eq!(too_slow(&pace).await, None, "enough");
        pace.write_blocked();
        pace.answered();
        assert_eq!(too_slow(&pace).await, Some((TooSlow::TakingItsAnswer, 30)), "again too little");
        pace.flushed();
        assert_eq!(too_slow(&pace).await.map(|(what, _)| what), Some(TooSlow::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_rings_for_what_is_done_is_set_anew() {
        let pace = pace();
        let mut alarm = pin!(sleep(Duration::from_secs(10)));
        let start = Instant::now();
        pace.answering();
        advance(Duration::from_secs(9)).await;
        pace.answered();
        let what = poll_fn(|cx| pace.poll_too_slow(alarm.as_mut(), cx)).await;
        assert_eq!((what, start.elapsed().as_secs()), (TooSlow::Idle, 84));
    }
}
