use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Backoff, Exclusive, Keep, Millis, NewMessage, RateLimit, Retention,
    number::{self, MaxAttempts, MaxLapses},
};

/// How a queue treats its messages. Kept in Redis, field by field, where they differ from the defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long a lease lasts unless it is extended: 100 ms to 24 h. Defaults to 30 s.
    pub visibility_timeout: Millis,
    /// How many attempts a message has: 1 to 1,000. Defaults to 3.
    pub max_attempts: MaxAttempts,
    /// The pause before the next attempt. Defaults to exponential from 1 s to at most 1 h, with a jitter of 0.2.
    pub backoff: Backoff,
    /// The lapse that ends a message: 1 to 1,000. Defaults to 3.
    pub max_lapses: MaxLapses,
    /// How many leases may be made in which time. Defaults to none.
    pub rate_limit: Option<RateLimit>,
    /// Whether only one consumer at a time has access. Defaults to `false`.
    pub exclusive: Exclusive,
    /// How long one run may take before it counts as a failed attempt: 1 ms to 7 days. Defaults to none.
    pub timeout: Option<Millis>,
    /// For how long an `Idempotency-Key` is remembered: 1 s to 30 days. Defaults to 1 h.
    pub idempotency_window: Millis,
    /// For how long after its message has finished a producer's own id stays taken, also when the message is no longer kept:
    /// up to 30 days. With 0 it is free as soon as the message is no longer kept. Defaults to 1 h.
    pub id_window: Millis,
    /// How many messages that have not finished the queue takes: 1 to 1,000,000,000. Defaults to none.
    #[serde(default, deserialize_with = "number::optional")]
    pub max_length: Option<u64>,
    /// For how long finished messages are kept.
    pub retention: Retention,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            visibility_timeout: Millis::from_secs(30),
            max_attempts: MaxAttempts::DEFAULT,
            backoff: Backoff::default(),
            max_lapses: MaxLapses::DEFAULT,
            rate_limit: None,
            exclusive: Exclusive::No,
            timeout: None,
            idempotency_window: Millis::from_hours(1),
            id_window: Millis::from_hours(1),
            max_length: None,
            retention: Retention::default(),
        }
    }
}

/// The fields of `meta` that hold settings; the scripts read them under these names. A dot leads into an object.
mod field {
    pub(super) const VISIBILITY_TIMEOUT: &str = "visibility_timeout";
    pub(super) const MAX_ATTEMPTS: &str = "max_attempts";
    pub(super) const BACKOFF: &str = "backoff";
    pub(super) const MAX_LAPSES: &str = "max_lapses";
    pub(super) const RATE_LIMIT: &str = "rate_limit";
    pub(super) const EXCLUSIVE: &str = "exclusive";
    pub(super) const TIMEOUT: &str = "timeout";
    pub(super) const IDEMPOTENCY_WINDOW: &str = "idempotency_window";
    pub(super) const ID_WINDOW: &str = "id_window";
    pub(super) const MAX_LENGTH: &str = "max_length";
    pub(super) const RETENTION_COMPLETED: &str = "retention.completed";
    pub(super) const RETENTION_FAILED: &str = "retention.failed";
}

impl Settings {
    /// The shortest visibility timeout, of a queue or of one lease: 100 ms.
    pub const SHORTEST_LEASE: Millis = Millis::new(100);
    /// The longest: 24 h.
    pub const LONGEST_LEASE: Millis = Millis::from_hours(24);
    /// The greatest `max_length`.
    pub const GREATEST_LENGTH: u64 = 1_000_000_000;

    /// These settings with a merge patch (RFC 7396) over them; a null brings back the default.
    ///
    /// # Errors
    ///
    /// The setting that is unknown, not of its kind, or out of range.
    pub fn patched(&self, patch: &Value) -> Result<Self, InvalidSetting> {
        if let Some(setting) = list_in(patch) {
            // What is an object would be taken from a list of its members too.
            return Err(InvalidSetting::new(&setting, "no setting is a list; name its members in an object"));
        }
        let mut merged = self.as_json();
        merge(&mut merged, patch, Some(&Self::default().as_json()));
        let settings: Self = serde_path_to_error::deserialize(merged).map_err(|error| {
            let setting = error.path().to_string();
            let problem = error.into_inner().to_string();
            // Only of what has no default: it may be left away where there is one that it changes.
            let fault = if problem.starts_with("missing field") { Fault::Conflicts } else { Fault::Invalid };
            InvalidSetting { setting, problem, fault }
        })?;
        settings.validate()?;
        Ok(settings)
    }

    fn as_json(&self) -> Value {
        serde_json::to_value(self).expect("settings have a JSON form")
    }

    fn validate(&self) -> Result<(), InvalidSetting> {
        let within = |setting: &str, value: Option<Millis>, least: Millis, most: Millis| match value {
            Some(value) if !(least..=most).contains(&value) => {
                Err(InvalidSetting::new(setting, &format!("must be {least} to {most}")))
            }
            _ => Ok(()),
        };
        let visibility_timeout = Some(self.visibility_timeout);
        within(field::VISIBILITY_TIMEOUT, visibility_timeout, Self::SHORTEST_LEASE, Self::LONGEST_LEASE)?;
        within(field::TIMEOUT, self.timeout, Millis::new(1), NewMessage::LONGEST_TIMEOUT)?;
        let window = (Millis::from_secs(1), Millis::from_days(30));
        within(field::IDEMPOTENCY_WINDOW, Some(self.idempotency_window), window.0, window.1)?;
        within(field::ID_WINDOW, Some(self.id_window), Millis::ZERO, window.1)?;
        let length = match self.max_length {
            None | Some(1..=Self::GREATEST_LENGTH) => Ok(()),
            Some(_) => Err("must be 1 to 1000000000; a null removes it"),
        };
        for (setting, checked) in [
            (field::BACKOFF, self.backoff.validate()),
            (field::RATE_LIMIT, self.rate_limit.map_or(Ok(()), |limit| limit.validate())),
            (field::MAX_LENGTH, length),
            (field::RETENTION_COMPLETED, self.retention.completed.validate()),
            (field::RETENTION_FAILED, self.retention.failed.validate()),
        ] {
            checked.map_err(|problem| InvalidSetting::new(setting, problem))?;
        }
        for (setting, keep) in
            [(field::RETENTION_COMPLETED, self.retention.completed), (field::RETENTION_FAILED, self.retention.failed)]
        {
            if keep.min_age > keep.age {
                let conflict = InvalidSetting::new(setting, "min_age must not be longer than age");
                return Err(InvalidSetting { fault: Fault::Conflicts, ..conflict });
            }
        }
        Ok(())
    }

    /// As `meta` holds them; an empty text for one that is not there.
    pub(crate) fn encode(&self) -> Vec<(&'static str, String)> {
        let millis = |millis: Millis| millis.get().to_string();
        vec![
            (field::VISIBILITY_TIMEOUT, millis(self.visibility_timeout)),
            (field::MAX_ATTEMPTS, self.max_attempts.to_string()),
            (field::BACKOFF, self.backoff.encode()),
            (field::MAX_LAPSES, self.max_lapses.to_string()),
            (field::RATE_LIMIT, self.rate_limit.map(RateLimit::encode).unwrap_or_default()),
            (field::EXCLUSIVE, self.exclusive.encode().unwrap_or_default()),
            (field::TIMEOUT, self.timeout.map(millis).unwrap_or_default()),
            (field::IDEMPOTENCY_WINDOW, millis(self.idempotency_window)),
            (field::ID_WINDOW, millis(self.id_window)),
            (field::MAX_LENGTH, self.max_length.map(|length| length.to_string()).unwrap_or_default()),
            (field::RETENTION_COMPLETED, self.retention.completed.encode()),
            (field::RETENTION_FAILED, self.retention.failed.encode()),
        ]
    }

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
            field::RATE_LIMIT => self.rate_limit = RateLimit::decode(value),
            field::EXCLUSIVE => set(&mut self.exclusive, Exclusive::decode(value)),
            field::TIMEOUT => self.timeout = value.parse().ok(),
            field::IDEMPOTENCY_WINDOW => set(&mut self.idempotency_window, value.parse().ok()),
            field::ID_WINDOW => set(&mut self.id_window, value.parse().ok()),
            field::MAX_LENGTH => self.max_length = value.parse().ok(),
            field::RETENTION_COMPLETED => set(&mut self.retention.completed, Keep::decode(value)),
            field::RETENTION_FAILED => set(&mut self.retention.failed, Keep::decode(value)),
            _ => {}
        }
    }
}

/// Where in a patch a list stands, if one does.
fn list_in(patch: &Value) -> Option<String> {
    match patch {
        Value::Array(_) => Some(String::new()),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let within = list_in(value)?;
            Some(if within.is_empty() { name.clone() } else { format!("{name}.{within}") })
        }),
        _ => None,
    }
}

/// Merges as RFC 7396 has it, but that a null brings back what stands in `defaults`.
fn merge(target: &mut Value, patch: &Value, defaults: Option<&Value>) {
    match patch {
        Value::Null => *target = defaults.cloned().unwrap_or(Value::Null),
        Value::Object(fields) => {
            if !target.is_object() {
                *target = Value::Object(serde_json::Map::new());
            }
            for (name, value) in fields {
                let default = defaults.and_then(|defaults| defaults.get(name));
                // A word that is no setting stays to be told, whatever its value.
                merge(&mut target[name.as_str()], value, default);
            }
        }
        other => *target = other.clone(),
    }
}

/// A setting is unknown, not of its kind, or out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct InvalidSetting {
    /// The setting; a dot leads into an object.
    pub setting: String,
    /// What is wrong with it.
    pub problem: String,
    /// Whether another state of the settings would help.
    pub fault: Fault,
}

/// Why a setting can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It can never be taken.
    Invalid,
    /// It does not go with the others as they stand.
    Conflicts,
}

impl InvalidSetting {
    fn new(setting: &str, problem: &str) -> Self {
        Self { setting: setting.into(), problem: problem.into(), fault: Fault::Invalid }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::SettingsPatch;

    #[test]
    fn what_is_declared_reads_back_and_the_rest_stays_default() {
        let patch: SettingsPatch = serde_json::from_str(
            r#"{"visibility_timeout":"2s","max_attempts":7,"backoff":{"type":"fixed","delay":10},"max_lapses":9,
                "rate_limit":{"max":3,"duration":"1s"},"exclusive":{"parallel":4},"timeout":"1m","max_length":5,
                "idempotency_window":"2h","id_window":"3h","retention":{"completed":{"count":5}}}"#,
        )
        .unwrap();
        patch.validate().unwrap();
        let fields = patch.encode();
        assert_eq!(fields.len(), 11, "only what is declared: {fields:?}");
        let mut settings = Settings::default();
        for (name, value) in &fields {
            settings.apply(name, value);
        }
        let expected = Settings::default().patched(&serde_json::to_value(&patch).unwrap()).unwrap();
        assert_eq!(settings.visibility_timeout, Millis::from_secs(2));
        assert_eq!(settings.rate_limit, Some(RateLimit { max: 3, duration: Millis::from_secs(1) }));
        assert_eq!(settings.retention.completed, Keep { count: 5, ..Retention::default().completed });
        assert_eq!(settings.retention.failed, Retention::default().failed);
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_patch_changes_what_it_names_and_a_null_brings_back_the_default() {
        let first = json!({"max_attempts": 9, "timeout": "5s", "rate_limit": {"max": 1, "duration": 1000},
                           "retention": {"completed": {"count": 7, "age": "2h"}}});
        let settings = Settings::default().patched(&first).unwrap();
        let second = json!({"max_attempts": null, "rate_limit": {"max": 2}, "timeout": null,
                            "retention": {"completed": {"count": null}}});
        let settings = settings.patched(&second).unwrap();
        assert_eq!((settings.max_attempts, settings.timeout), (MaxAttempts::DEFAULT, None));
        assert_eq!(settings.rate_limit, Some(RateLimit { max: 2, duration: Millis::from_secs(1) }));
        let expected = Keep { age: Millis::from_hours(2), ..Retention::default().completed };
        assert_eq!(settings.retention.completed, expected);
        assert_eq!(settings.patched(&json!({"rate_limit": null, "retention": null})).unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (patch, setting) in [
            (json!({"visibility_timeout": 99}), "visibility_timeout"),
            (json!({"backoff": []}), "backoff"),
            (json!({"retention": {"completed": ["1h"]}}), "retention.completed"),
            (json!({"exclusive": "true"}), "exclusive"),
            (json!({"visibility_timeout": "25h"}), "visibility_timeout"),
            (json!({"backoff": {"jitter": 2}}), "backoff"),
            (json!({"retention": {"failed": {"age": "30s"}}}), "retention.failed"),
            (json!({"retention": {"failed": {"count": -1}}}), "retention.failed.count"),
            (json!({"rate_limit": {"max": 0, "duration": 1}}), "rate_limit"),
            (json!({"rate_limit": {"max": 1}}), "rate_limit"),
            (json!({"max_attempts": 0}), "max_attempts"),
            (json!({"max_length": 0}), "max_length"),
            (json!({"idempotency_window": 5}), "idempotency_window"),
            (json!({"id_window": "31d"}), "id_window"),
            (json!({"exclusive": {"parallel": 0}}), "exclusive"),
            (json!({"max_attempt": 1}), "max_attempt"),
            (json!({"max_attempt": null}), "max_attempt"),
        ] {
            let error = Settings::default().patched(&patch).unwrap_err();
            assert_eq!(error.setting, setting, "{patch}: {error}");
        }
        assert!(Settings::default().patched(&json!(5)).is_err());
        assert!(Settings::default().patched(&json!([])).is_err());
    }
}
