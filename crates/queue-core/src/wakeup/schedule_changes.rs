//! The schedules about which notifications have arrived since this process read the schedules last.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::names::{QueueName, ScheduleName};

/// If more schedules of a queue than this number have changed, all schedules of the queue are read again.
const MAX_NAMES: usize = 100;

/// The schedules of a queue that must be read again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum OutdatedSchedules {
    /// None of the schedules of the queue needs to be read again.
    #[default]
    None,
    /// The named schedules must be read again.
    Some(HashSet<ScheduleName>),
    /// All schedules of the queue must be read again.
    All,
}

impl OutdatedSchedules {
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

/// Collects the notifications about schedules until the scheduler of this process takes the notifications.
#[derive(Debug, Default)]
pub(crate) struct ScheduleChanges {
    changed: Mutex<HashMap<QueueName, OutdatedSchedules>>,
    added: Notify,
}

impl ScheduleChanges {
    pub(crate) fn add(&self, queue: QueueName, changed: OutdatedSchedules) {
        self.changed.lock().entry(queue).or_default().add(changed);
        self.added.notify_one();
    }

    /// Waits for changes, and returns the changed schedules by queue. The returned future may be dropped at any time; only one task
    /// may wait at a time.
    pub(crate) async fn next(&self) -> HashMap<QueueName, OutdatedSchedules> {
        loop {
            let changed_schedules = std::mem::take(&mut *self.changed.lock());
            if !changed_schedules.is_empty() {
                return changed_schedules;
            }
            self.added.notified().await;
        }
    }
}
