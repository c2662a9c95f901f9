//! One run of a program. A separate task writes the program's input, reads its output, stops the program at the time-out, and
//! reaps the process.

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

use super::{command::Command, process_group::ProcessGroup, stderr_log::StderrLog};
use crate::{config::Output, job::Job};

/// The time limit for reading the remaining output of a program that has ended. The ended program has written its output
/// to the pipes already, and a pipe stays open only if a child process has left the process group.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// The time limit for a killed process to end. A killed process that takes longer than this limit hangs in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The tasks that supervise the running programs, one task for each program. Each task ends and reaps its program, even if
/// the handler that started the program is dropped.
static RUNNING_PROGRAMS: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until all programs of the handler `exec` have ended. Programs whose handlers were dropped are being stopped
/// already, so `all_programs_ended` waits little longer than the longest `stop_grace`.
pub(crate) async fn all_programs_ended() {
    RUNNING_PROGRAMS.close();
    RUNNING_PROGRAMS.wait().await;
}

/// The time limits of a run of a program.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunLimits {
    pub(super) timeout: Duration,
    /// The time from SIGTERM to SIGKILL.
    pub(super) stop_grace: Duration,
}

/// The reason for which a program ended.
pub(super) enum EndReason {
    /// The program exited by itself, or by a signal of another process.
    Exited(ExitStatus),
    /// The program was stopped because its output exceeds the maximum size of a result.
    TooMuchOutput,
    /// The program was stopped at its time-out.
    TimedOut,
    /// The program was stopped because its handler was cancelled or dropped.
    Stopped,
}

/// The end of a program, and its output.
pub(super) struct FinishedRun {
    pub(super) end: EndReason,
    /// The standard output of the program.
    pub(super) output: Vec<u8>,
    /// The last line of the program's standard error, which usually describes the error.
    pub(super) last_line: String,
}

/// Runs a program on a message to its end. When the future of `run` is dropped, the program is stopped.
pub(super) async fn run(command: &Command, job: &Job, output: Output, limits: RunLimits) -> io::Result<FinishedRun> {
    let child = command.spawn(job, output)?;
    let group = ProcessGroup::from_leader(&child);
    let stop_token = job.stop().child_token();
    let program =
        Program { child, group, job: job.clone(), limits, stop: stop_token.clone(), cleanup: job.cleanup_token() };
    let _stopped_when_dropped = stop_token.drop_guard();
    RUNNING_PROGRAMS.spawn(program.supervise().instrument(Span::current())).await.map_err(io::Error::other)?
}

struct Program {
    child: Child,
    group: ProcessGroup,
    job: Job,
    limits: RunLimits,
    stop: CancellationToken,
    /// The token that `supervise` drops when the program has ended. The worker records a timed-out attempt only after the
    /// attempt's cleanup tokens were dropped.
    cleanup: TaskTrackerToken,
}

impl Program {
    async fn supervise(mut self) -> io::Result<FinishedRun> {
        let deadline = Instant::now() + self.limits.timeout;
        let (stdout, mut output) = (self.child.stdout.take(), Vec::new());
        let mut stderr = StderrLog::from_pipe(self.child.stderr.take());
        let stdin = self.child.stdin.take();
        let data = self.job.message().data.get();
        let end = {
            // The pipes of standard input, output and error are served concurrently, because the program may block on
            // any of them.
            let write_input_and_log = async { Ok(tokio::join!(write_input(stdin, data), stderr.log_until_closed())) };
            let stream_output =
                async { tokio::try_join!(read_output(stdout, &mut output), write_input_and_log).map(|_| ()) };
            let mut stream_output = pin!(stream_output.fuse());
            let end = tokio::select! {
                exited = self.child.wait() => EndReason::Exited(exited?),
                Err(OutputTooLarge) = &mut stream_output => EndReason::TooMuchOutput,
                () = sleep_until(deadline) => EndReason::TimedOut,
                () = self.stop.cancelled() => EndReason::Stopped,
            };
            if !matches!(end, EndReason::Exited(_)) {
                // The worker reads the output while it stops the program, because a program that blocks on a full pipe
                // could not end.
                let kill_at = self.job.cleanup_deadline(self.limits.stop_grace);
                let stop_program = stop_processes(&mut self.child, &self.group, kill_at);
                tokio::join!(stop_program, timeout_at(kill_at, wait_for_streams(&mut stream_output))).0;
            }
            // The group is killed even if the program exited by itself, because the program may have left child processes behind.
            self.group.kill();
            if timeout(KILL_TIMEOUT, self.child.wait()).await.is_err() {
                warn!("a program was killed but does not end: it hangs in the kernel");
            }
            drop(self.cleanup);
            match timeout(DRAIN_TIMEOUT, wait_for_streams(&mut stream_output)).await {
                Ok(Err(OutputTooLarge)) => EndReason::TooMuchOutput,
                Ok(Ok(())) | Err(_) => end,
            }
        };
        Ok(FinishedRun { end, output, last_line: stderr.into_last_line() })
    }
}

/// Waits until the standard streams of a program have ended. Returns at once if the standard streams have ended
/// already.
async fn wait_for_streams<F: FusedFuture<Output = Result<(), OutputTooLarge>> + Unpin>(
    streaming: &mut F,
) -> Result<(), OutputTooLarge> {
    if streaming.is_terminated() { Ok(()) } else { streaming.await }
}

/// The output of the program exceeds the maximum size of a result.
struct OutputTooLarge;

/// Reads the output of a program, up to the maximum size of a result. If the future of `read_output` is dropped, `output`
/// keeps the bytes that were read.
async fn read_output(stdout: Option<ChildStdout>, output: &mut Vec<u8>) -> Result<(), OutputTooLarge> {
    let Some(stdout) = stdout else { return Ok(()) };
    // A read error counts as the end of the output, because the exit status of the program decides the outcome.
    let _ = stdout.take(Queue::MAX_RESULT_BYTES as u64 + 1).read_to_end(output).await;
    if output.len() > Queue::MAX_RESULT_BYTES { Err(OutputTooLarge) } else { Ok(()) }
}

/// Writes the data to the standard input of a program. A program that does not read its input causes no error.
async fn write_input(stdin: Option<ChildStdin>, data: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(data.as_bytes()).await;
    }
}

/// Sends SIGTERM to all processes of a program, and waits until the processes have ended or the deadline has passed.
async fn stop_processes(child: &mut Child, group: &ProcessGroup, kill_at: Instant) {
    group.terminate();
    // The caller later kills the processes that have not ended by the deadline.
    if timeout_at(kill_at, child.wait()).await.is_ok() {
        group.wait_until_empty(kill_at).await;
    }
}
