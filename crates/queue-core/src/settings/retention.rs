//! Retention: how long, and how many, finished messages are kept.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    range::{DurationIn, NumberIn},
    time::Millis,
};

/// The retention of finished messages: how long, and how many, are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The retention of completed messages; defaults to 24 h and 10,000 messages.
    #[schema(inline)]
    pub completed: RetentionLimits,
    /// The retention of failed messages, the dead letters; defaults to 14 days and 100,000 messages.
    #[schema(inline)]
    pub failed: RetentionLimits,
}

/// A finished message is forgotten when it is older than `age`, when more than `count` are kept and it is older than `min_age`, or at
/// once if `count` is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionLimits {
    /// The maximum time that a message is kept, up to 3,650 days.
    #[schema(inline)]
    pub age: Age,
    /// The maximum number of messages that are kept: up to 1,000,000,000. With a `count` of 0 a message is forgotten as soon as it has
    /// finished.
    #[schema(inline)]
    pub count: NumberIn<0, 1_000_000_000>,
    /// The minimum time that a message is kept, so that its result can be read: up to `age`; defaults to 60 s.
    #[schema(inline)]
    pub min_age: Age,
}

type Age = DurationIn<0, { Millis::from_days(3_650).get() }>;

impl Default for Retention {
    fn default() -> Self {
        const DEFAULT_COMPLETED_RETENTION: RetentionLimits = RetentionLimits::of(Millis::from_hours(24), 10_000);
        const DEFAULT_FAILED_RETENTION: RetentionLimits = RetentionLimits::of(Millis::from_days(14), 100_000);
        Self { completed: DEFAULT_COMPLETED_RETENTION, failed: DEFAULT_FAILED_RETENTION }
    }
}

impl RetentionLimits {
    const fn of(age: Millis, count: i64) -> Self {
        Self { age: Age::of(age), count: NumberIn::of(count), min_age: Age::of(Millis::from_secs(60)) }
    }
}

impl Retention {
    /// Returns the path of the member (`retention.completed` or `retention.failed`) whose values contradict each other.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        if self.completed.min_age > self.completed.age {
            return Some("retention.completed");
        }
        (self.failed.min_age > self.failed.age).then_some("retention.failed")
    }
}
