//! The settings of the model's queue. All durations are in ms.

use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) visibility_timeout: u64,
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) max_lapses: u32,
    pub(crate) rate_limit: Option<RateLimit>,
    /// The number of messages that the owner may work on at a time; `None` for a queue that is not exclusive.
    pub(crate) exclusive: Option<usize>,
    /// How many messages of a group are active at a time; `None` for no limit.
    pub(crate) group_concurrency: Option<usize>,
    pub(crate) timeout: Option<u64>,
    pub(crate) idempotency_window: u64,
    pub(crate) id_window: u64,
    pub(crate) max_length: Option<usize>,
    pub(crate) completed: Keep,
    pub(crate) failed: Keep,
}

/// A back-off without jitter, so that the model knows every pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backoff {
    pub(crate) doubles: bool,
    pub(crate) delay: u64,
    pub(crate) max: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RateLimit {
    pub(crate) max: usize,
    pub(crate) duration: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Keep {
    pub(crate) age: u64,
    pub(crate) count: usize,
    pub(crate) min_age: u64,
}

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 24 * 3_600 * SECOND_MS;

/// The settings that the processes of the test declare.
pub(crate) const DECLARED_SETTINGS: &str =
    r#"{"backoff":{"type":"exponential","delay":300,"max":1000,"jitter":0},"max_lapses":2}"#;
pub(crate) const DECLARED_BACKOFF: Backoff = Backoff { doubles: true, delay: 300, max: 1_000 };
pub(crate) const DECLARED_MAX_LAPSES: u32 = 2;

pub(crate) const DEFAULT_COMPLETED: Keep = Keep { age: DAY_MS, count: 10_000, min_age: 60 * SECOND_MS };
pub(crate) const DEFAULT_FAILED: Keep = Keep { age: 14 * DAY_MS, count: 100_000, min_age: 60 * SECOND_MS };

impl Default for Settings {
    fn default() -> Self {
        Self {
            visibility_timeout: 30 * SECOND_MS,
            max_attempts: 3,
            backoff: DECLARED_BACKOFF,
            max_lapses: 3,
            rate_limit: None,
            exclusive: None,
            group_concurrency: Some(1),
            timeout: None,
            idempotency_window: 3_600 * SECOND_MS,
            id_window: 3_600 * SECOND_MS,
            max_length: None,
            completed: DEFAULT_COMPLETED,
            failed: DEFAULT_FAILED,
        }
    }
}

/// A change of one setting; `None` restores its default.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    VisibilityTimeout(Option<u64>),
    MaxAttempts(Option<u32>),
    Backoff(Backoff),
    MaxLapses(Option<u32>),
    RateLimit(Option<RateLimit>),
    Exclusive(Option<usize>),
    GroupConcurrency(Option<usize>),
    NoGroupConcurrency,
    Timeout(Option<u64>),
    IdempotencyWindow(Option<u64>),
    IdWindow(Option<u64>),
    MaxLength(Option<usize>),
    Completed(Option<Keep>),
    Failed(Option<Keep>),
}

impl Settings {
    pub(crate) fn change(&mut self, change: &Change) {
        let defaults = Self::default();
        match change {
            Change::VisibilityTimeout(to) => self.visibility_timeout = to.unwrap_or(defaults.visibility_timeout),
            Change::MaxAttempts(to) => self.max_attempts = to.unwrap_or(defaults.max_attempts),
            Change::Backoff(to) => self.backoff = *to,
            Change::MaxLapses(to) => self.max_lapses = to.unwrap_or(defaults.max_lapses),
            Change::RateLimit(to) => self.rate_limit = *to,
            Change::Exclusive(to) => self.exclusive = *to,
            Change::GroupConcurrency(to) => self.group_concurrency = to.or(defaults.group_concurrency),
            Change::NoGroupConcurrency => self.group_concurrency = None,
            Change::Timeout(to) => self.timeout = *to,
            Change::IdempotencyWindow(to) => self.idempotency_window = to.unwrap_or(defaults.idempotency_window),
            Change::IdWindow(to) => self.id_window = to.unwrap_or(defaults.id_window),
            Change::MaxLength(to) => self.max_length = *to,
            Change::Completed(to) => self.completed = to.unwrap_or(defaults.completed),
            Change::Failed(to) => self.failed = to.unwrap_or(defaults.failed),
        }
    }

    /// Shows the settings in the form that answers have.
    pub(crate) fn as_json(&self) -> Value {
        json!({
            "visibility_timeout": self.visibility_timeout,
            "max_attempts": self.max_attempts,
            "backoff": self.backoff.as_json(),
            "max_lapses": self.max_lapses,
            "rate_limit": self.rate_limit.map(RateLimit::as_json),
            "exclusive": exclusive_as_json(self.exclusive),
            "groups": {"concurrency": self.group_concurrency},
            "timeout": self.timeout,
            "idempotency_window": self.idempotency_window,
            "id_window": self.id_window,
            "max_length": self.max_length,
            "retention": {"completed": self.completed.as_json(), "failed": self.failed.as_json()},
        })
    }
}

impl Backoff {
    pub(crate) fn pause_after(self, attempts: u32) -> u64 {
        let pause = if self.doubles { self.delay << (attempts - 1) } else { self.delay };
        pause.min(self.max)
    }

    pub(crate) fn as_json(self) -> Value {
        let kind = if self.doubles { "exponential" } else { "fixed" };
        json!({"type": kind, "delay": self.delay, "max": self.max, "jitter": 0.0})
    }
}

impl RateLimit {
    fn as_json(self) -> Value {
        json!({"max": self.max, "duration": self.duration})
    }
}

impl Keep {
    fn as_json(self) -> Value {
        json!({"age": self.age, "count": self.count, "min_age": self.min_age})
    }
}

fn exclusive_as_json(parallel: Option<usize>) -> Value {
    match parallel {
        None => json!(false),
        Some(1) => json!(true),
        Some(parallel) => json!({"parallel": parallel}),
    }
}

impl Change {
    /// Returns the change as a merge patch.
    pub(crate) fn as_patch(&self) -> Value {
        match self {
            Self::VisibilityTimeout(to) => json!({"visibility_timeout": to}),
            Self::MaxAttempts(to) => json!({"max_attempts": to}),
            Self::Backoff(to) => json!({"backoff": to.as_json()}),
            Self::MaxLapses(to) => json!({"max_lapses": to}),
            Self::RateLimit(to) => json!({"rate_limit": to.map(RateLimit::as_json)}),
            Self::Exclusive(to) => json!({"exclusive": to.map(|parallel| exclusive_as_json(Some(parallel)))}),
            Self::GroupConcurrency(None) => json!({"groups": null}),
            Self::GroupConcurrency(to) => json!({"groups": {"concurrency": to}}),
            Self::NoGroupConcurrency => json!({"groups": {"concurrency": null}}),
            Self::Timeout(to) => json!({"timeout": to}),
            Self::IdempotencyWindow(to) => json!({"idempotency_window": to}),
            Self::IdWindow(to) => json!({"id_window": to}),
            Self::MaxLength(to) => json!({"max_length": to}),
            Self::Completed(to) => json!({"retention": {"completed": to.map(Keep::as_json)}}),
            Self::Failed(to) => json!({"retention": {"failed": to.map(Keep::as_json)}}),
        }
    }
}
