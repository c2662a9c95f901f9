use serde::{Deserialize, Serialize};

use crate::{
    Backoff, Millis,
    number::{MaxAttempts, MaxLapses},
};

/// How a queue treats its messages. Kept in Redis, field by field, where they differ from the defaults.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// How long a lease lasts unless it is extended: 100 ms to 24 h. Defaults to 30 s.
    pub visibility_timeout: Millis,
    /// How many attempts a message has: 1 to 1,000. Defaults to 3.
    pub max_attempts: MaxAttempts,
    /// The pause before the next attempt. Defaults to exponential from 1 s to at most 1 h, with a jitter of 0.2.
    pub backoff: Backoff,
    /// The lapse that ends a message: 1 to 1,000. Defaults to 3.
    pub max_lapses: MaxLapses,
    /// For how long finished messages are kept.
    pub retention: Retention,
}

/// For how long finished messages are kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retention {
    /// Completed ones. Defaults to 24 h and 10,000 messages.
    pub completed: Keep,
    /// Failed ones, the dead letters. Defaults to 14 days and 100,000 messages.
    pub failed: Keep,
}

/// A finished message goes when it is older than `age`, or when more than `count` are kept and it is older than
/// `min_age`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Keep {
    /// The longest that one is kept, up to 3,650 days.
    pub age: Millis,
    /// How many are kept: 1 to 1,000,000,000.
    pub count: u64,
    /// The shortest that one is kept, so that its result can be read: up to `age`. Defaults to 60 s.
    pub min_age: Millis,
}

impl Default for Settings {
    fn default() -> Self {
        let min_age = Millis::from_secs(60);
        Self {
            visibility_timeout: Millis::from_secs(30),
            max_attempts: MaxAttempts::DEFAULT,
            backoff: Backoff::default(),
            max_lapses: MaxLapses::DEFAULT,
            retention: Retention {
                completed: Keep { age: Millis::from_hours(24), count: 10_000, min_age },
                failed: Keep { age: Millis::from_days(14), count: 100_000, min_age },
            },
        }
    }
}

/// Settings as they are declared or changed: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsPatch {
    /// See [`Settings::visibility_timeout`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility_timeout: Option<Millis>,
    /// See [`Settings::max_attempts`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<MaxAttempts>,
    /// See [`Settings::backoff`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// See [`Settings::max_lapses`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lapses: Option<MaxLapses>,
    /// See [`Settings::retention`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionPatch>,
}

/// See [`Retention`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPatch {
    /// See [`Retention::completed`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<KeepPatch>,
    /// See [`Retention::failed`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<KeepPatch>,
}

/// See [`Keep`]. What is absent takes its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepPatch {
    /// See [`Keep::age`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<Millis>,
    /// See [`Keep::count`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// See [`Keep::min_age`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_age: Option<Millis>,
}

impl KeepPatch {
    fn over(&self, default: Keep) -> Keep {
        Keep {
            age: self.age.unwrap_or(default.age),
            count: self.count.unwrap_or(default.count),
            min_age: self.min_age.unwrap_or(default.min_age),
        }
    }
}

/// The fields of `meta` that hold settings; the scripts read them under these names.
mod field {
    pub(super) const VISIBILITY_TIMEOUT: &str = "visibility_timeout";
    pub(super) const MAX_ATTEMPTS: &str = "max_attempts";
    pub(super) const BACKOFF: &str = "backoff";
    pub(super) const MAX_LAPSES: &str = "max_lapses";
    pub(super) const RETENTION_COMPLETED: &str = "retention.completed";
    pub(super) const RETENTION_FAILED: &str = "retention.failed";
}

impl SettingsPatch {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range, and its range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let range = Millis::new(100)..=Millis::from_hours(24);
        if self.visibility_timeout.is_some_and(|timeout| !range.contains(&timeout)) {
            return Err(InvalidSetting { setting: "visibility_timeout", problem: "must be 100 ms to 24 h" });
        }
        if let Some(Err(problem)) = self.backoff.map(|backoff| backoff.validate()) {
            return Err(InvalidSetting { setting: "backoff", problem });
        }
        let defaults = Settings::default().retention;
        let retention = self.retention.clone().unwrap_or_default();
        for (setting, keep) in [
            ("retention.completed", retention.completed.unwrap_or_default().over(defaults.completed)),
            ("retention.failed", retention.failed.unwrap_or_default().over(defaults.failed)),
        ] {
            keep.validate().map_err(|problem| InvalidSetting { setting, problem })?;
        }
        Ok(())
    }

    /// As `meta` holds them.
    pub(crate) fn encode(&self) -> Vec<(&'static str, String)> {
        let defaults = Settings::default().retention;
        let retention = self.retention.clone().unwrap_or_default();
        [
            (field::VISIBILITY_TIMEOUT, self.visibility_timeout.map(|timeout| timeout.get().to_string())),
            (field::MAX_ATTEMPTS, self.max_attempts.map(|attempts| attempts.to_string())),
            (field::BACKOFF, self.backoff.map(|backoff| backoff.encode())),
            (field::MAX_LAPSES, self.max_lapses.map(|lapses| lapses.to_string())),
            (field::RETENTION_COMPLETED, retention.completed.map(|keep| keep.over(defaults.completed).encode())),
            (field::RETENTION_FAILED, retention.failed.map(|keep| keep.over(defaults.failed).encode())),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect()
    }
}

impl Settings {
    /// Takes over a field of `meta`; fields that are not settings are passed over.
    pub(crate) fn apply(&mut self, name: &str, value: &str) {
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        match name {
            field::VISIBILITY_TIMEOUT => set(&mut self.visibility_timeout, value.parse().ok()),
            field::MAX_ATTEMPTS => set(&mut self.max_attempts, value.parse().ok()),
            field::BACKOFF => set(&mut self.backoff, Backoff::decode(value)),
            field::MAX_LAPSES => set(&mut self.max_lapses, value.parse().ok()),
            field::RETENTION_COMPLETED => set(&mut self.retention.completed, Keep::decode(value)),
            field::RETENTION_FAILED => set(&mut self.retention.failed, Keep::decode(value)),
            _ => {}
        }
    }
}

impl Keep {
    fn validate(self) -> Result<(), &'static str> {
        if self.age > Millis::from_days(3_650) {
            return Err("age must be at most 3650 days");
        }
        if !(1..=1_000_000_000).contains(&self.count) {
            return Err("count must be 1 to 1000000000");
        }
        if self.min_age > self.age {
            return Err("min_age must not be longer than age");
        }
        Ok(())
    }

    /// As the scripts read it.
    pub(crate) fn encode(self) -> String {
        format!("{},{},{}", self.age.get(), self.count, self.min_age.get())
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(',').map(str::parse::<u64>);
        let mut number = || parts.next()?.ok();
        Some(Self { age: Millis::new(number()?), count: number()?, min_age: Millis::new(number()?) })
    }
}

/// A setting is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct InvalidSetting {
    /// The setting.
    pub setting: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_reads_back_and_the_rest_stays_default() {
        let patch: SettingsPatch = serde_json::from_str(
            r#"{"visibility_timeout":"2s","max_attempts":7,"backoff":{"type":"fixed","delay":10},
                "max_lapses":9,"retention":{"completed":{"count":5}}}"#,
        )
        .unwrap();
        patch.validate().unwrap();
        let mut settings = Settings::default();
        for (name, value) in patch.encode() {
            settings.apply(name, &value);
        }
        assert_eq!(settings.visibility_timeout, Millis::from_secs(2));
        assert_eq!(settings.max_attempts.get(), 7);
        assert_eq!(settings.backoff.delay, Millis::new(10));
        assert_eq!(settings.max_lapses.get(), 9);
        assert_eq!(settings.retention.completed, Keep { count: 5, ..Settings::default().retention.completed });
        assert_eq!(settings.retention.failed, Settings::default().retention.failed);
    }

    #[test]
    fn ranges_are_checked() {
        for json in [
            r#"{"visibility_timeout":99}"#,
            r#"{"visibility_timeout":"25h"}"#,
            r#"{"backoff":{"jitter":2}}"#,
            r#"{"retention":{"completed":{"count":0}}}"#,
            r#"{"retention":{"failed":{"age":"30s"}}}"#,
        ] {
            let patch: SettingsPatch = serde_json::from_str(json).unwrap();
            assert!(patch.validate().is_err(), "{json}");
        }
        for json in [r#"{"max_attempts":0}"#, r#"{"max_attempts":1001}"#, r#"{"max_lapses":0}"#, r#"{"max_attempt":1}"#]
        {
            assert!(serde_json::from_str::<SettingsPatch>(json).is_err(), "{json}");
        }
    }
}
