//! One run of a program: it is fed, watched, stopped at its time, and reaped.

use std::{io, pin::pin, process::ExitStatus, sync::LazyLock, time::Duration};

use futures_util::{FutureExt, future::FusedFuture};
use queue_core::Queue;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{Instrument, Span, warn};

use super::{command::Command, group::Group, stderr_log::StderrLog};
use crate::{Job, config::Output, run::AFTER_THE_RUNS_TIME};

/// How long what a program said is read after it has ended. It stands in the pipes by then, which are mostly closed; who
/// holds them open has left the group.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long a process that is killed may take to end. One that does not is in the hands of the kernel.
const TIME_TO_DIE: Duration = Duration::from_secs(5);

/// All programs of this process: each has a task that ends it and reaps it, whatever becomes of who started it.
static PROGRAMS: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until all programs have ended. Those whose handlers were dropped are being stopped, so it takes no longer than
/// the longest `stop_grace`, and a moment.
pub(crate) async fn all_ended() {
    PROGRAMS.close();
    PROGRAMS.wait().await;
}

/// What bounds a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub(super) stop_grace: Duration,
}

/// How a program ended.
pub(super) enum End {
    /// By itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// It was ended because it printed more than can be a result.
    TooMuchOutput,
    /// It was ended because its time was over.
    TimedOut,
    /// It was ended because it was told to stop.
    Stopped,
}

/// What came of a program.
pub(super) struct Ran {
    pub(super) end: End,
    /// What it printed.
    pub(super) output: Vec<u8>,
    /// The last line of its stderr, which mostly says what was wrong.
    pub(super) last_line: String,
}

/// Runs a program on a message to its end. When this is dropped the program is told to stop.
pub(super) async fn run(command: &Command, job: &Job, output: Output, limits: Limits) -> io::Result<Ran> {
    let child = command.spawn(job, output)?;
    let group = Group::led_by(&child);
    let stop = job.stop().child_token();
    let program = Program { child, group, job: job.clone(), limits, stop: stop.clone(), goes_on: job.goes_on() };
    let _stopped_when_dropped = stop.drop_guard();
    PROGRAMS.spawn(program.supervise().instrument(Span::current())).await.map_err(io::Error::other)?
}

struct Program {
    child: Child,
    group: Group,
    job: Job,
    limits: Limits,
    stop: CancellationToken,
    /// Until it has ended.
    goes_on: TaskTrackerToken,
}

impl Program {
    async fn supervise(mut self) -> io::Result<Ran> {
        let deadline = Instant::now() + self.limits.timeout;
        let (stdout, mut output) = (self.child.stdout.take(), Vec::new());
        let mut stderr = StderrLog::of(self.child.stderr.take());
        let stdin = self.child.stdin.take();
        let data = self.job.message().data.get();
        let end = {
            // All at once: a program may wait for any of them.
            let feeding_and_logging = async { Ok(tokio::join!(feed(stdin, data), stderr.read())) };
            let talking = async { tokio::try_join!(capture(stdout, &mut output), feeding_and_logging).map(|_| ()) };
            let mut talking = pin!(talking.fuse());
            let end = tokio::select! {
                exited = self.child.wait() => End::Exited(exited?),
                Err(TooMuch) = &mut talking => End::TooMuchOutput,
                () = sleep_until(deadline) => End::TimedOut,
                () = self.stop.cancelled() => End::Stopped,
            };
            if !matches!(end, End::Exited(_)) {
                // It may have something to say before it can end.
                let kill_at = kill_at(&self.job, self.limits.stop_grace);
                let stopping = stop(&mut self.child, &self.group, kill_at);
                tokio::join!(stopping, timeout_at(kill_at, until_ended(&mut talking))).0;
            }
            // Also what a program left behind that ended by itself: nobody would ever end it.
            self.group.kill();
            if timeout(TIME_TO_DIE, self.child.wait()).await.is_err() {
                warn!("a program does not end though it is killed: it hangs in the kernel");
            }
            drop(self.goes_on);
            match timeout(LAST_WORDS, until_ended(&mut talking)).await {
                Ok(Err(TooMuch)) => End::TooMuchOutput,
                Ok(Ok(())) | Err(_) => end,
            }
        };
        Ok(Ran { end, output, last_line: stderr.into_last_line() })
    }
}

/// Waits for it, also when that is done already.
async fn until_ended<F: FusedFuture<Output = Result<(), TooMuch>> + Unpin>(talking: &mut F) -> Result<(), TooMuch> {
    if talking.is_terminated() { Ok(()) } else { talking.await }
}

/// More was printed than can be a result.
struct TooMuch;

/// Reads what a program prints, as far as it can be a result. What was read is kept when this is dropped half-way.
async fn capture(stdout: Option<ChildStdout>, output: &mut Vec<u8>) -> Result<(), TooMuch> {
    let Some(stdout) = stdout else { return Ok(()) };
    // An error is an end like another: the exit status says how it went.
    let _ = stdout.take(Queue::MAX_RESULT_BYTES as u64 + 1).read_to_end(output).await;
    if output.len() > Queue::MAX_RESULT_BYTES { Err(TooMuch) } else { Ok(()) }
}

/// Gives a program its data. It need not read it.
async fn feed(stdin: Option<ChildStdin>, data: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(data.as_bytes()).await;
    }
}

/// Until when a program that is told to stop now may go on.
fn kill_at(job: &Job, grace: Duration) -> Instant {
    let grace_is_over = Instant::now() + grace;
    job.deadline().map_or(grace_is_over, |deadline| grace_is_over.min(Instant::from(deadline) + AFTER_THE_RUNS_TIME))
}

/// Asks all of a program to end, and waits for that until then.
async fn stop(child: &mut Child, group: &Group, kill_at: Instant) {
    group.terminate();
    // What is still there is killed.
    if timeout_at(kill_at, child.wait()).await.is_ok() {
        group.is_gone_by(kill_at).await;
    }
}
