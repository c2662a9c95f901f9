//! How long the machine holds up what wants to run. A time that is promised holds on a machine that has the time; what another
//! process took of it meanwhile is measured and allowed for, so a busy machine fails no test, and a quiet one excuses nothing.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::MutexGuard;

/// How long the thread that watches sleeps each time.
const STEP: Duration = Duration::from_millis(1);
/// A sleep may last so much longer on a quiet machine, too.
const SLACK: Duration = Duration::from_millis(1);

/// Only one of these tests runs at a time, whatever the number of threads.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Watches the machine as long as it lives, and keeps other tests of this kind waiting.
pub(crate) struct StallMonitor {
    watch: Arc<Watch>,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Default)]
struct Watch {
    delays: Mutex<Vec<Delay>>,
    /// Up to when there are all delays, in ms since 1970.
    seen_until: AtomicU64,
}

/// The thread should have run from `from` on, and did at `until`. In ms since 1970.
struct Delay {
    from: u64,
    until: u64,
}

impl StallMonitor {
    pub(crate) async fn watched() -> Self {
        let alone = ALONE.lock().await;
        let watch = Arc::new(Watch::default());
        let of_thread = Arc::downgrade(&watch);
        thread::spawn(move || {
            while let Some(watch) = of_thread.upgrade() {
                let begun = now();
                thread::sleep(STEP);
                watch.note(begun, now());
            }
        });
        Self { watch, _alone: alone }
    }

    /// That what began and ended at these instants, in ms since 1970, took no longer than is promised, and what the machine held up.
    #[track_caller]
    pub(crate) fn assert_within(&self, promised: Duration, from: u64, until: u64, what: &str) {
        let took = Duration::from_millis(until.saturating_sub(from));
        let held_up = self.watch.held_up(from, until);
        assert!(took <= promised + held_up, "{what}: {took:?}, promised {promised:?}, held up for {held_up:?}");
    }
}

impl Watch {
    fn note(&self, begun: u64, ended: u64) {
        let due = begun + u64::try_from((STEP + SLACK).as_millis()).unwrap();
        if ended > due {
            self.delays.lock().unwrap().push(Delay { from: due, until: ended });
        }
        self.seen_until.store(ended, Ordering::Release);
    }

    /// For how long the thread was held up within this time.
    fn held_up(&self, from: u64, until: u64) -> Duration {
        while self.seen_until.load(Ordering::Acquire) <= until {
            thread::sleep(STEP);
        }
        let delays = self.delays.lock().unwrap();
        let within = |delay: &Delay| delay.until.min(until).saturating_sub(delay.from.max(from));
        Duration::from_millis(delays.iter().map(within).sum())
    }
}

/// In ms since 1970, as Redis's own clock on this machine.
pub(crate) fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn stalls_count_only_within_the_measured_time() {
    let watch = Watch::default();
    for (begun, ended) in [(1_000, 1_001), (1_001, 1_003), (1_003, 1_055), (1_055, 1_056), (1_056, 1_158)] {
        watch.note(begun, ended);
    }
    for (from, until, held_up) in
        [(0, 1_004, 0), (0, 1_100, 92), (1_010, 1_020, 10), (1_050, 1_057, 5), (1_100, 1_157, 57)]
    {
        assert_eq!(watch.held_up(from, until).as_millis(), held_up, "from {from} until {until}");
    }
}
