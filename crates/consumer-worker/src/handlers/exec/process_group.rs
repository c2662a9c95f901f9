//! The process group of a program, which is signalled and killed as a whole.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout_at},
};

/// The processes of one program: itself, and those that it started unless they have left the group. Killed when dropped, so
/// that they outlive the worker only if the worker itself is killed.
///
/// The kernel gives the id of a group to no other process while one of the group lives. When none does it may, so a group is
/// signalled only right after its leader was reaped, or while it is being watched.
pub(super) struct ProcessGroup {
    id: Option<Pid>,
}

/// The first and the longest pause between two looks at a group that is ending.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

impl ProcessGroup {
    /// The group that this process leads, which was just started.
    pub(super) fn led_by(leader: &Child) -> Self {
        Self { id: leader.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) }
    }

    /// Asks all processes to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until no process is left, at most until the deadline.
    pub(super) async fn wait_until(&self, deadline: Instant) {
        let gone = async {
            let mut pause = FIRST_PAUSE;
            while self.id.is_some_and(|id| test_kill_process_group(id).is_ok()) {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        // Processes that are left are killed later.
        let _ = timeout_at(deadline, gone).await;
    }

    /// Kills all processes.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.id = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // It fails when no process is left.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
