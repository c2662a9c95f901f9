//! The status of a queue: its counts, settings and totals.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::Result,
    message::State,
    names::QueueName,
    queue::{Call, Queue},
    redis::scripts,
    settings::{Settings, schema::ShownSettings},
    time::Millis,
};

/// The field that `meta` has while the queue is paused.
pub(super) const PAUSED_FIELD: &str = "paused";

/// The status of a queue.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Queue)]
pub struct QueueStatus {
    /// The queue's name.
    #[schema(inline)]
    pub queue: QueueName,
    /// Whether the queue is paused.
    pub paused: bool,
    /// How many messages are in each state.
    #[schema(inline)]
    pub counts: Counts,
    /// The time since the oldest ready message became ready, in milliseconds; null if no message is ready. Only some ready messages
    /// are compared: the head of the waiting list, the first message of another priority, and of the first messages of up to about
    /// 1,000 groups the one that was posted first.
    #[schema(required, value_type = Option<u64>)]
    pub oldest_waiting_age: Option<Millis>,
    /// The queue's settings.
    #[schema(value_type = ShownSettings)]
    pub settings: Settings,
    /// Totals of events since the queue was created.
    #[schema(inline)]
    pub totals: Totals,
    /// How many schedules the queue has.
    pub schedules: u64,
}

/// How many messages are in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// The number of messages that wait for a signal.
    pub held: u64,
    /// The number of messages that are not due yet, or are in back-off.
    pub delayed: u64,
    /// The number of messages that are ready.
    pub waiting: u64,
    /// The number of messages that are leased.
    pub active: u64,
    /// The number of completed messages that are still kept.
    pub completed: u64,
    /// The number of failed messages that are still kept.
    pub failed: u64,
}

impl Counts {
    /// How many messages are in one state.
    pub fn of(&self, state: State) -> u64 {
        match state {
            State::Held => self.held,
            State::Delayed => self.delayed,
            State::Waiting => self.waiting,
            State::Active => self.active,
            State::Completed => self.completed,
            State::Failed => self.failed,
        }
    }
}

/// Totals of events since the queue was created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Totals {
    /// The number of messages that were stored.
    pub enqueued: u64,
    /// The number of messages that were completed.
    pub completed: u64,
    /// The number of messages that failed for good.
    pub failed: u64,
    /// The number of failed attempts after which the message was retried.
    pub retried: u64,
    /// The number of leases that lapsed.
    pub lapsed: u64,
    /// The number of messages that failed because they were not started in time.
    pub expired: u64,
    /// The number of messages that failed because they were cancelled.
    pub cancelled: u64,
    /// The number of messages that ticks of schedules posted.
    pub scheduled: u64,
}

impl Queue {
    /// The status of the queue; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn status(&self) -> Result<Option<QueueStatus>> {
        type Status = (u64, u64, u64, u64, u64, u64, i64, Vec<(String, String)>, u64);
        let status: Option<Status> = self.call(&scripts::STATUS, Call::new(&scripts::STATUS, &self.keys)).await?;
        let Some((held, delayed, waiting, active, completed, failed, age, meta, schedules)) = status else {
            return Ok(None);
        };
        let counts = Counts { held, delayed, waiting, active, completed, failed };
        let oldest_waiting_age = u64::try_from(age).ok().map(Millis::new);
        let mut settings = Vec::new();
        let mut is_paused = false;
        let mut totals = Totals::default();
        for (name, value) in meta {
            match name.strip_prefix("total:") {
                Some(total) => totals.set_total(total, value.parse().unwrap_or(0)),
                None if name == PAUSED_FIELD => is_paused = true,
                None => settings.push((name, value)),
            }
        }
        let settings = Settings::from_stored(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let queue = self.name.clone();
        Ok(Some(QueueStatus { queue, paused: is_paused, counts, oldest_waiting_age, settings, totals, schedules }))
    }
}

impl Totals {
    fn set_total(&mut self, name: &str, value: u64) {
        match name {
            "enqueued" => self.enqueued = value,
            "completed" => self.completed = value,
            "failed" => self.failed = value,
            "retried" => self.retried = value,
            "lapsed" => self.lapsed = value,
            "expired" => self.expired = value,
            "cancelled" => self.cancelled = value,
            "scheduled" => self.scheduled = value,
            _ => {}
        }
    }
}
