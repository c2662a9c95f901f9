//! The schedules that were changed since they were read last, as notifications tell.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::names::{QueueName, ScheduleName};

/// When more schedules of a queue have changed than this, all of them are read again.
const MAX_NAMES: usize = 100;

/// The schedules of a queue that must be read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Outdated {
    /// No schedule.
    #[default]
    None,
    /// These schedules.
    Some(HashSet<ScheduleName>),
    /// All schedules.
    All,
}

impl Outdated {
    pub(crate) fn add(&mut self, other: Self) {
        *self = match (std::mem::take(self), other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, other) | (other, Self::None) => other,
            (Self::Some(mut names), Self::Some(others)) => {
                names.extend(others);
                if names.len() > MAX_NAMES { Self::All } else { Self::Some(names) }
            }
        };
    }
}

/// Collects the notifications about schedules, until the process that ticks takes them.
#[derive(Debug, Default)]
pub(crate) struct ScheduleChanges {
    changed: Mutex<HashMap<QueueName, Outdated>>,
    added: Notify,
}

impl ScheduleChanges {
    pub(crate) fn add(&self, queue: QueueName, changed: Outdated) {
        self.changed.lock().entry(queue).or_default().add(changed);
        self.added.notify_one();
    }

    /// Waits for changes, and returns them. The future may be dropped at any time; only one task may wait at a time.
    pub(crate) async fn next(&self) -> HashMap<QueueName, Outdated> {
        loop {
            let changed = std::mem::take(&mut *self.changed.lock());
            if !changed.is_empty() {
                return changed;
            }
            self.added.notified().await;
        }
    }
}
