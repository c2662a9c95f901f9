//! The process group of a program, which is ended as a whole.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout_at};

/// The processes of one program: itself, and what it started unless that has left the group. Killed when dropped, so that
/// nothing outlives the worker but by `kill -9`.
///
/// The kernel gives the id of a group to nobody else while one of it lives. When none does it may, so a group is signalled
/// only right after its leader was reaped, or while it is being watched.
pub(super) struct Group {
    id: Option<Pid>,
}

/// How often a group that is ending is looked at, at first.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const SLOWEST_LOOK: Duration = Duration::from_millis(50);

impl Group {
    /// Led by this process, which was just started.
    pub(super) fn led_by(leader: &Child) -> Self {
        Self { id: leader.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) }
    }

    /// Asks all of it to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until nobody is left, at most until then.
    pub(super) async fn is_gone_by(&self, deadline: Instant) {
        let gone = async {
            let mut pause = FIRST_LOOK;
            while self.id.is_some_and(|id| test_kill_process_group(id).is_ok()) {
                sleep(pause).await;
                pause = (pause * 2).min(SLOWEST_LOOK);
            }
        };
        // If it is not, it is killed.
        let _ = timeout_at(deadline, gone).await;
    }

    /// Ends all of it now.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.id = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            // It errs when nobody is left.
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
