//! Tells the log of a trouble that may last: once, or now and then, instead of with each try.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A trouble, and when the log was told of it last.
///
/// ```
/// static AWAY: service::Trouble = service::Trouble::told_once();
/// assert!(AWAY.goes_on() && !AWAY.goes_on(), "it is told once");
/// assert!(AWAY.is_over() && !AWAY.is_over(), "and so is its end");
/// assert!(AWAY.goes_on());
/// ```
#[derive(Debug)]
pub struct Trouble {
    again_after: Option<Duration>,
    told_at: Mutex<Option<Instant>>,
}

impl Trouble {
    /// One that is told once until it is over.
    pub const fn told_once() -> Self {
        Self { again_after: None, told_at: Mutex::new(None) }
    }

    /// One that is told again after so long if it goes on.
    pub const fn told_every(pause: Duration) -> Self {
        Self { again_after: Some(pause), told_at: Mutex::new(None) }
    }

    /// Notes that it goes on. Answers whether the log is to be told now.
    pub fn goes_on(&self) -> bool {
        let mut told_at = self.told_at.lock();
        let is_news = told_at.is_none_or(|told_at| self.again_after.is_some_and(|after| told_at.elapsed() >= after));
        if is_news {
            *told_at = Some(Instant::now());
        }
        is_news
    }

    /// Notes that it is over. Answers whether the log was told of it, and so is to be told of its end.
    pub fn is_over(&self) -> bool {
        self.told_at.lock().take().is_some()
    }
}
