//! One run of a program: a task of its own feeds it, reads its output, stops it at its time-out, and reaps it.

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

use super::{Command, process_group::ProcessGroup, stderr_log::StderrLog};
use crate::{config::Output, job::Job};

/// The time in which the output of a program that has ended is read. It is in the pipes by then, which are mostly closed; only
/// a process that has left the group holds them open.
const TIME_TO_READ_REST: Duration = Duration::from_millis(500);
/// The time that a killed process has to end. One that does not end hangs in the kernel.
const TIME_TO_DIE: Duration = Duration::from_secs(5);

/// The tasks of all programs: each one ends and reaps its program, even when the handler that started it is dropped.
static PROGRAMS: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until all programs have ended. Those whose handlers were dropped are being stopped, so it takes little longer than
/// the longest `stop_grace`.
pub(crate) async fn all_ended() {
    PROGRAMS.close();
    PROGRAMS.wait().await;
}

/// The limits of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    /// The time from SIGTERM to SIGKILL.
    pub(super) stop_grace: Duration,
}

/// The reason for which a program ended.
pub(super) enum End {
    /// It ended by itself, or by a signal of another process.
    Exited(ExitStatus),
    /// It was stopped because it printed more than can be a result.
    TooMuchOutput,
    /// It was stopped because its time was over.
    TimedOut,
    /// It was stopped because its handler was to stop.
    Stopped,
}

/// The end of a program, and its output.
pub(super) struct Ran {
    pub(super) end: End,
    /// Its standard output.
    pub(super) output: Vec<u8>,
    /// The last line of its standard error, which mostly names the mistake.
    pub(super) last_line: String,
}

/// Runs a program on a message to its end. When the future is dropped, the program is stopped.
pub(super) async fn run(command: &Command, job: &Job, output: Output, limits: Limits) -> io::Result<Ran> {
    let child = command.spawn(job, output)?;
    let group = ProcessGroup::led_by(&child);
    let stop = job.stop().child_token();
    let program = Program { child, group, job: job.clone(), limits, stop: stop.clone(), rest: job.rest_token() };
    let _stopped_when_dropped = stop.drop_guard();
    PROGRAMS.spawn(program.supervise().instrument(Span::current())).await.map_err(io::Error::other)?
}

struct Program {
    child: Child,
    group: ProcessGroup,
    job: Job,
    limits: Limits,
    stop: CancellationToken,
    /// Held until the program has ended.
    rest: TaskTrackerToken,
}

impl Program {
    async fn supervise(mut self) -> io::Result<Ran> {
        let deadline = Instant::now() + self.limits.timeout;
        let (stdout, mut output) = (self.child.stdout.take(), Vec::new());
        let mut stderr = StderrLog::of(self.child.stderr.take());
        let stdin = self.child.stdin.take();
        let data = self.job.message().data.get();
        let end = {
            // All three at once: a program may wait for any of them.
            let feeding_and_logging = async { Ok(tokio::join!(feed(stdin, data), stderr.read())) };
            let streaming = async { tokio::try_join!(capture(stdout, &mut output), feeding_and_logging).map(|_| ()) };
            let mut streaming = pin!(streaming.fuse());
            let end = tokio::select! {
                exited = self.child.wait() => End::Exited(exited?),
                Err(TooMuch) = &mut streaming => End::TooMuchOutput,
                () = sleep_until(deadline) => End::TimedOut,
                () = self.stop.cancelled() => End::Stopped,
            };
            if !matches!(end, End::Exited(_)) {
                // It may have to write output before it can end.
                let kill_at = self.job.must_end_by(self.limits.stop_grace);
                let stopping = stop(&mut self.child, &self.group, kill_at);
                tokio::join!(stopping, timeout_at(kill_at, until_ended(&mut streaming))).0;
            }
            // Also the processes that a program left behind when it ended by itself: no other process would end them.
            self.group.kill();
            if timeout(TIME_TO_DIE, self.child.wait()).await.is_err() {
                warn!("a program does not end though it is killed: it hangs in the kernel");
            }
            drop(self.rest);
            match timeout(TIME_TO_READ_REST, until_ended(&mut streaming)).await {
                Ok(Err(TooMuch)) => End::TooMuchOutput,
                Ok(Ok(())) | Err(_) => end,
            }
        };
        Ok(Ran { end, output, last_line: stderr.into_last_line() })
    }
}

/// Waits for the streams, also when they have ended already.
async fn until_ended<F: FusedFuture<Output = Result<(), TooMuch>> + Unpin>(streaming: &mut F) -> Result<(), TooMuch> {
    if streaming.is_terminated() { Ok(()) } else { streaming.await }
}

/// The program printed more than can be a result.
struct TooMuch;

/// Reads the output of a program, as far as it can be a result. The bytes that were read stay when the future is dropped.
async fn capture(stdout: Option<ChildStdout>, output: &mut Vec<u8>) -> Result<(), TooMuch> {
    let Some(stdout) = stdout else { return Ok(()) };
    // An error counts as the end of the output: the exit status decides the outcome.
    let _ = stdout.take(Queue::MAX_RESULT_BYTES as u64 + 1).read_to_end(output).await;
    if output.len() > Queue::MAX_RESULT_BYTES { Err(TooMuch) } else { Ok(()) }
}

/// Writes the data to a program, which need not read it.
async fn feed(stdin: Option<ChildStdin>, data: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(data.as_bytes()).await;
    }
}

/// Asks all processes of a program to end, and waits for that until the deadline.
async fn stop(child: &mut Child, group: &ProcessGroup, kill_at: Instant) {
    group.terminate();
    // Processes that are left are killed later.
    if timeout_at(kill_at, child.wait()).await.is_ok() {
        group.wait_until(kill_at).await;
    }
}
