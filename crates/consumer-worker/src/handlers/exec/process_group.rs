//! The process group of a program: signals are sent to the whole group.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout_at},
};

/// The processes of one program: the program itself, and its child processes that have not left the group. Dropping a
/// `ProcessGroup` kills the processes, so the processes outlive the worker only if the worker itself is killed.
///
/// The kernel does not reuse the id of a group while the group has a process. The kernel may reuse the id of an empty group, so a
/// group gets signals only before its leader is reaped, right after that, or right after the group was polled.
pub(super) struct ProcessGroup {
    id: Option<Pid>,
}

/// The first and the maximum pause between two polls of a group that is ending.
const FIRST_POLL_PAUSE: Duration = Duration::from_millis(2);
const MAX_POLL_PAUSE: Duration = Duration::from_millis(50);

impl ProcessGroup {
    /// Returns the group of the child process `leader`, which was just started.
    pub(super) fn from_leader(leader: &Child) -> Self {
        Self { id: leader.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) }
    }

    /// Sends SIGTERM to all processes of the group.
    pub(super) fn terminate(&self) {
        self.send_signal(Signal::TERM);
    }

    /// Waits until the group has no process, at most until the deadline.
    pub(super) async fn wait_until_empty(&self, deadline: Instant) {
        let all_ended = async {
            let mut poll_pause = FIRST_POLL_PAUSE;
            while self.id.is_some_and(|id| test_kill_process_group(id).is_ok()) {
                sleep(poll_pause).await;
                poll_pause = (poll_pause * 2).min(MAX_POLL_PAUSE);
            }
        };
        // The caller later kills the processes that have not ended by the deadline.
        let _ = timeout_at(deadline, all_ended).await;
    }

    /// Kills all processes of the group.
    pub(super) fn kill(&mut self) {
        self.send_signal(Signal::KILL);
        self.id = None;
    }

    fn send_signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // `kill_process_group` fails when the group has no process.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
