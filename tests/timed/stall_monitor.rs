//! Measures the stalls of the machine: the time during which other processes kept the test from running. A promised time is
//! extended by the stalls within it, so that a busy machine fails no test and a quiet machine gets no extension.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::MutexGuard;

/// The length of each sleep of the monitoring thread.
const SLEEP_LENGTH: Duration = Duration::from_millis(1);
/// The maximum time that a sleep may last longer than `SLEEP_LENGTH` on a quiet machine.
const MAX_OVERSLEEP: Duration = Duration::from_millis(1);

/// The lock that lets only one test with a monitor run at a time, independently of the number of test threads.
static MONITOR_LOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A monitor that measures stalls until it is dropped. Other tests with a monitor wait until the monitor is dropped.
pub(crate) struct StallMonitor {
    recorded_stalls: Arc<RecordedStalls>,
    _turn: MutexGuard<'static, ()>,
}

#[derive(Default)]
struct RecordedStalls {
    stalls: Mutex<Vec<Stall>>,
    /// The instant until which all stalls are known, in ms since 1970.
    measured_until: AtomicU64,
}

/// A stall: the monitoring thread was due to run at `from`, and ran at `until`, in ms since 1970.
struct Stall {
    from: u64,
    until: u64,
}

impl StallMonitor {
    pub(crate) async fn start() -> Self {
        let monitor_lock = MONITOR_LOCK.lock().await;
        let recorded_stalls = Arc::new(RecordedStalls::default());
        let weak_recorded_stalls = Arc::downgrade(&recorded_stalls);
        thread::spawn(move || {
            while let Some(recorded_stalls) = weak_recorded_stalls.upgrade() {
                let sleep_start = now_millis();
                thread::sleep(SLEEP_LENGTH);
                recorded_stalls.record(sleep_start, now_millis());
            }
        });
        Self { recorded_stalls, _turn: monitor_lock }
    }

    /// Asserts that the time between the instants `from` and `until` (ms since 1970) is at most `promised`, apart from the stalls of the
    /// machine in this time.
    #[track_caller]
    pub(crate) fn assert_duration_within(&self, promised: Duration, from: u64, until: u64, what: &str) {
        let measured_time = Duration::from_millis(until.saturating_sub(from));
        let stalled_time = self.recorded_stalls.stalled_time(from, until);
        assert!(
            measured_time <= promised + stalled_time,
            "{what}: {measured_time:?}, promised {promised:?}, stalled for {stalled_time:?}"
        );
    }
}

impl RecordedStalls {
    fn record(&self, started: u64, ended: u64) {
        let due = started + u64::try_from((SLEEP_LENGTH + MAX_OVERSLEEP).as_millis()).unwrap();
        if ended > due {
            self.stalls.lock().unwrap().push(Stall { from: due, until: ended });
        }
        self.measured_until.store(ended, Ordering::Release);
    }

    /// Returns the sum of the stalls within this time.
    fn stalled_time(&self, from: u64, until: u64) -> Duration {
        while self.measured_until.load(Ordering::Acquire) <= until {
            thread::sleep(SLEEP_LENGTH);
        }
        let stalls = self.stalls.lock().unwrap();
        let time_within = |stall: &Stall| stall.until.min(until).saturating_sub(stall.from.max(from));
        Duration::from_millis(stalls.iter().map(time_within).sum())
    }
}

/// Returns the time in ms since 1970, by the clock of this machine, which Redis also uses.
pub(crate) fn now_millis() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn stalls_of_the_machine_count_only_within_the_measured_time() {
    let recorded_stalls = RecordedStalls::default();
    for (started, ended) in [(1_000, 1_001), (1_001, 1_003), (1_003, 1_055), (1_055, 1_056), (1_056, 1_158)] {
        recorded_stalls.record(started, ended);
    }
    for (from, until, stalled) in
        [(0, 1_004, 0), (0, 1_100, 92), (1_010, 1_020, 10), (1_050, 1_057, 5), (1_100, 1_157, 57)]
    {
        assert_eq!(recorded_stalls.stalled_time(from, until).as_millis(), stalled, "from {from} until {until}");
    }
}
