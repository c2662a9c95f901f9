//! Merge patches of settings (RFC 7396), which the API accepts and a configuration declares.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::settings::Settings;

/// The setting for which null is a value, not the default: `groups.concurrency`.
pub(super) const SETTING_WITH_NULL_AS_VALUE: &str = "concurrency";

impl Settings {
    /// Applies a merge patch (RFC 7396) to these settings. A null restores the default of a setting, but a null for
    /// `groups.concurrency` means no limit.
    ///
    /// # Errors
    ///
    /// Returns the first setting that is unknown, of a wrong type, or out of range.
    pub fn with_patch(&self, patch: &Value) -> Result<Self, InvalidSetting> {
        let invalid_setting =
            |setting: String, problem: String, is_conflict| InvalidSetting { setting, problem, is_conflict };
        if let Some(setting) = path_of_first_list(patch) {
            // Code derived by serde would also accept a list of the members' values instead of an object.
            return Err(invalid_setting(setting, "no setting is a list; name its members in an object".into(), false));
        }
        let mut merged_json = self.as_json();
        merge_patch(&mut merged_json, patch, Some(&Self::default().as_json()));
        let settings: Self = serde_path_to_error::deserialize(merged_json).map_err(|error| {
            let setting = error.path().to_string();
            let problem = error.into_inner().to_string();
            // A missing member of a setting, such as `max` of `rate_limit`, is an error if the member has no default. A patch may
            // omit such a member if the current settings have the member.
            let is_conflict = problem.starts_with("missing field");
            invalid_setting(setting, problem, is_conflict)
        })?;
        if let Some(kind) = settings.retention.contradiction() {
            return Err(invalid_setting(kind.into(), "min_age must not be longer than age".into(), true));
        }
        Ok(settings)
    }

    fn as_json(&self) -> Value {
        serde_json::to_value(self).expect("settings have a JSON form")
    }
}

/// A merge patch of settings, which changes only the settings that it names. The schema of a patch also describes the body of the
/// request that changes a queue's settings, where a null restores the default.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SettingsPatch(Value);

impl Default for SettingsPatch {
    fn default() -> Self {
        Self(Value::Object(Map::new()))
    }
}

impl SettingsPatch {
    /// Makes a patch of these members; a null restores the default of a setting, as in [`Settings::patched`].
    pub(super) fn of(members: &Value) -> Self {
        let Self(mut patch) = Self::default();
        merge_patch(&mut patch, members, None);
        Self(patch)
    }

    /// Applies the patch to the default settings, and returns the result.
    ///
    /// # Errors
    ///
    /// Returns the first setting that is unknown, of a wrong type, or out of range.
    pub fn settings(&self) -> Result<Settings, InvalidSetting> {
        Settings::default().with_patch(&self.0)
    }

    /// Whether the patch names any setting.
    pub fn names(&self, setting: &str) -> bool {
        self.0.get(setting).is_some()
    }

    /// The fields of the hash `meta` for the settings that the patch names, as in [`Settings::meta_fields`].
    pub(crate) fn meta_fields(&self) -> BTreeMap<String, String> {
        let mut stored_fields = self.settings().unwrap_or_default().meta_fields();
        stored_fields.retain(|field, _| self.0.pointer(&format!("/{}", field.replace('.', "/"))).is_some());
        stored_fields
    }

    /// Merges another patch into this one; the members of the other patch win.
    pub(super) fn extend(&mut self, other: &Self) {
        merge_patch(&mut self.0, &other.0, None);
    }
}

/// Reads a patch of settings.
impl<'de> Deserialize<'de> for SettingsPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(&Value::Object(Map::deserialize(deserializer)?)))
    }
}

/// Merges a patch into another patch, whose nulls stay null. If `defaults` is given, merges the patch into a value as RFC 7396
/// describes, but a null restores the value in `defaults`, and a null for [`SETTING_WITH_NULL_AS_VALUE`] stays null.
fn merge_patch(target: &mut Value, patch: &Value, defaults: Option<&Value>) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (name, value) in members {
        match defaults {
            // A null for an unknown setting stays in the result, so that the name is refused later.
            Some(_) if value.is_null() && name == SETTING_WITH_NULL_AS_VALUE => target[name] = Value::Null,
            Some(defaults) if value.is_null() => target[name] = defaults.get(name).cloned().unwrap_or_default(),
            Some(defaults) => merge_patch(&mut target[name], value, Some(defaults.get(name).unwrap_or(&Value::Null))),
            None => merge_patch(&mut target[name], value, None),
        }
    }
}

/// Returns the path of the first list in a patch; `None` if the patch has no list.
fn path_of_first_list(patch: &Value) -> Option<String> {
    match patch {
        Value::Array(_) => Some(String::new()),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let inner_path = path_of_first_list(value)?;
            Some(if inner_path.is_empty() { name.clone() } else { format!("{name}.{inner_path}") })
        }),
        _ => None,
    }
}

/// The error of a setting that is unknown, of a wrong type, or out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct InvalidSetting {
    /// The path of the setting; a dot separates the names of nested members.
    pub setting: String,
    /// The problem with the setting.
    pub problem: String,
    /// Whether the patch conflicts only with the current values of other settings; if not, the patch is invalid for every queue.
    pub is_conflict: bool,
}

impl InvalidSetting {
    /// The error of a queue that can't become exclusive because of groups. The scripts name the `obstacle`: `messages`, or
    /// `schedule`, a space and its name.
    pub(crate) fn exclusive_conflicts_with_groups(obstacle: &str) -> Self {
        let advice = match obstacle.split_once(' ') {
            Some((_, schedule)) => {
                format!("delete the schedule {schedule}, whose message has a group, or remove the group from it")
            }
            None => "wait until the messages that have a group have finished".into(),
        };
        let problem = format!("an exclusive queue has no groups: {advice}");
        Self { setting: "exclusive".into(), problem, is_conflict: true }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::time::Millis;

    #[test]
    fn patch_changes_the_settings_that_it_names_and_null_restores_the_default() {
        let first_patch = json!({"max_attempts": 9, "timeout": "5s", "rate_limit": {"max": 1, "duration": 1000},
                           "retention": {"completed": {"count": 7, "age": "2h"}}});
        let settings = Settings::default().with_patch(&first_patch).unwrap();
        let second_patch = json!({"max_attempts": null, "rate_limit": {"max": 2}, "timeout": null,
                            "retention": {"completed": {"count": null}}});
        let settings = settings.with_patch(&second_patch).unwrap();
        assert_eq!((*settings.max_attempts, settings.timeout), (3, None));
        let limit = settings.rate_limit.unwrap();
        assert_eq!((*limit.max, *limit.duration), (2, Millis::from_secs(1)));
        let completed_retention = settings.retention.completed;
        assert_eq!((*completed_retention.count, *completed_retention.age), (10_000, Millis::from_hours(2)));
        assert_eq!(settings.with_patch(&json!({"rate_limit": null, "retention": null})).unwrap(), Settings::default());
    }

    #[test]
    fn null_is_no_limit_for_the_concurrency_of_groups() {
        let concurrency = |settings: &Settings, patch| {
            let patched_settings = settings.with_patch(&patch).unwrap();
            (patched_settings.groups.concurrency.map(|max| *max), patched_settings)
        };
        let (default, settings) = concurrency(&Settings::default(), json!({}));
        let (unlimited, settings) = concurrency(&settings, json!({"groups": {"concurrency": null}}));
        let (kept, settings) = concurrency(&settings, json!({"groups": {}, "timeout": "1s"}));
        let (restored, _) = concurrency(&settings, json!({"groups": null}));
        assert_eq!((default, unlimited, kept, restored), (Some(1), None, None, Some(1)));
    }

    #[test]
    fn invalid_setting_is_reported_with_its_path() {
        for (patch, setting) in [
            (json!({"visibility_timeout": 99}), "visibility_timeout"),
            (json!({"backoff": []}), "backoff"),
            (json!({"retention": {"completed": ["1h"]}}), "retention.completed"),
            (json!({"exclusive": "true"}), "exclusive"),
            (json!({"visibility_timeout": "25h"}), "visibility_timeout"),
            (json!({"backoff": {"jitter": 2}}), "backoff.jitter"),
            (json!({"retention": {"failed": {"age": "30s"}}}), "retention.failed"),
            (json!({"retention": {"failed": {"count": -1}}}), "retention.failed.count"),
            (json!({"rate_limit": {"max": 0, "duration": 1}}), "rate_limit.max"),
            (json!({"rate_limit": {"max": 1}}), "rate_limit"),
            (json!({"max_attempts": 0}), "max_attempts"),
            (json!({"max_length": 0}), "max_length"),
            (json!({"idempotency_window": 5}), "idempotency_window"),
            (json!({"id_window": "31d"}), "id_window"),
            (json!({"exclusive": {"parallel": 0}}), "exclusive.parallel"),
            (json!({"groups": {"concurrency": 0}}), "groups.concurrency"),
            (json!({"groups": {"concurrency": 1001}}), "groups.concurrency"),
            (json!({"max_attempt": 1}), "max_attempt"),
            (json!({"max_attempt": null}), "max_attempt"),
            (json!({"backoff": {"dealy": null}}), "backoff.dealy"),
        ] {
            let error = Settings::default().with_patch(&patch).unwrap_err();
            assert_eq!(error.setting, setting, "{patch}: {error}");
        }
        assert!(Settings::default().with_patch(&json!(5)).is_err());
        assert!(Settings::default().with_patch(&json!([])).is_err());
    }
}
