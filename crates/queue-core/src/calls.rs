use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{Error, Histogram, connection::CallError, quota, scripts};

/// The name under which what is no script is counted.
pub(crate) const COMMAND: &str = "command";

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const BOUNDS: &[Duration] = &[
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    ms(1),
    Duration::from_micros(2_500),
    ms(5),
    ms(10),
    ms(25),
    ms(50),
    ms(100),
    ms(250),
    ms(500),
    ms(1_000),
    ms(2_500),
];

/// The calls that one process made to Redis, by script.
#[derive(Debug)]
pub struct Calls {
    scripts: Box<[CallsOfScript]>,
}

/// The calls of one script.
#[derive(Debug)]
pub struct CallsOfScript {
    /// Its name; `command` stands for all that is no script.
    pub script: &'static str,
    /// How long they took, those that failed too.
    pub times: Histogram,
    failures: [AtomicU64; CallFailure::ALL.len()],
}

/// Why a call failed. That a queue is full, say, is an answer and no failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFailure {
    /// Redis was not there, did not answer in time, or could not serve.
    Unavailable,
    /// Redis had no memory left for what was to be stored.
    OutOfMemory,
    /// Redis said what no version of it should.
    Unexpected,
}

impl CallFailure {
    /// All.
    pub const ALL: [Self; 3] = [Self::Unavailable, Self::OutOfMemory, Self::Unexpected];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::OutOfMemory => "out_of_memory",
            Self::Unexpected => "unexpected",
        }
    }

    fn of(error: &CallError) -> Option<Self> {
        match error {
            CallError::Failed(Error::Unavailable(_)) => Some(Self::Unavailable),
            CallError::Failed(Error::OutOfMemory) => Some(Self::OutOfMemory),
            CallError::Failed(Error::Unexpected(_)) => Some(Self::Unexpected),
            _ => None,
        }
    }
}

impl Default for Calls {
    fn default() -> Self {
        let names = scripts::NAMES.iter().copied().chain([quota::NAME, COMMAND]);
        let none = |script| CallsOfScript { script, times: Histogram::new(BOUNDS), failures: Default::default() };
        Self { scripts: names.map(none).collect() }
    }
}

impl Calls {
    /// Of each script, called or not.
    pub fn by_script(&self) -> impl Iterator<Item = &CallsOfScript> {
        self.scripts.iter()
    }

    pub(crate) fn note(&self, script: &str, took: Duration, error: Option<&CallError>) {
        if let Some(calls) = self.of(script) {
            calls.times.observe(took);
        }
        if let Some(error) = error {
            self.note_failure(script, error);
        }
    }

    pub(crate) fn note_failure(&self, script: &str, error: &CallError) {
        if let (Some(calls), Some(failure)) = (self.of(script), CallFailure::of(error)) {
            calls.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A few dozen names of a few letters: comparing them costs less than hashing one.
    fn of(&self, script: &str) -> Option<&CallsOfScript> {
        self.scripts.iter().find(|calls| calls.script == script)
    }
}

impl CallsOfScript {
    /// How many failed for this reason.
    pub fn failures(&self, reason: CallFailure) -> u64 {
        self.failures[reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_answer_is_no_failure() {
        let calls = Calls::default();
        calls.note("enqueue", ms(1), None);
        calls.note("enqueue", ms(1), Some(&CallError::Failed(Error::QueueFull(1))));
        calls.note("enqueue", ms(1), Some(&CallError::StaleEpoch));
        calls.note("enqueue", ms(1), Some(&CallError::Failed(Error::OutOfMemory)));
        let enqueue = calls.of("enqueue").unwrap();
        assert_eq!(enqueue.times.sum(), ms(4));
        assert_eq!(CallFailure::ALL.map(|reason| enqueue.failures(reason)), [0, 1, 0]);
        assert!(calls.of("quota").is_some() && calls.of(COMMAND).is_some());
    }
}
