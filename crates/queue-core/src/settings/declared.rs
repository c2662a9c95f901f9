//! The settings that a configuration declares for queues, by name and by pattern, and their merge for one queue.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use serde_json::{Map, Value};

use crate::{
    json::JsonObject,
    names::{QueueName, ScheduleName},
    schedule::NewSchedule,
    settings::{
        exclusive::Exclusive,
        patch::{InvalidSetting, SettingsPatch},
        pattern::QueuePattern,
    },
};

/// Declared settings of queues: for one queue by its name, for many by a pattern (`user-*`, or `*` for all).
///
/// For each setting of a queue the entry of its exact name wins, then the matching pattern with the longest prefix, and so on
/// down to `*`. Objects such as `retention` and `rate_limit` are merged member by member.
///
/// The entry of one queue's name may also declare `schedules`, each by its name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeclaredSettings {
    settings: BTreeMap<QueuePattern, SettingsPatch>,
    /// The declared schedules, each as JSON. [`validate`](Self::validate) checks that each schedule can be read.
    schedules: BTreeMap<QueuePattern, BTreeMap<String, Value>>,
}

/// The member of an entry that declares the schedules of the queue.
const SCHEDULES_KEY: &str = "schedules";

/// The text that stands for null in a declared setting, because TOML has no null. No setting has the text `none` as a value.
const NULL_TEXT: &str = "none";

const GROUP_IN_EXCLUSIVE_QUEUE: &str =
    "the queue is declared exclusive, so its messages have no group: remove group, or exclusive";

impl<'de> Deserialize<'de> for DeclaredSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut declared_settings = Self::default();
        for (pattern, mut entry) in BTreeMap::<QueuePattern, Map<String, Value>>::deserialize(deserializer)? {
            if let Some(schedules) = entry.remove(SCHEDULES_KEY) {
                let schedules = serde_json::from_value(schedules).map_err(|_| {
                    D::Error::custom(format_args!("{pattern}.{SCHEDULES_KEY} must be a table of tables"))
                })?;
                declared_settings.schedules.insert(pattern.clone(), schedules);
            }
            let settings = replace_json_values(Value::Object(entry), &NULL_TEXT.into(), &Value::Null);
            declared_settings.settings.insert(pattern, SettingsPatch::of(&settings));
        }
        Ok(declared_settings)
    }
}

impl Serialize for DeclaredSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct PatternEntry<'a> {
            #[serde(flatten)]
            settings: Value,
            #[serde(skip_serializing_if = "Option::is_none")]
            schedules: Option<&'a BTreeMap<String, Value>>,
        }
        let mut entries = Vec::with_capacity(self.settings.len());
        for (pattern, settings) in &self.settings {
            let settings = serde_json::to_value(settings).map_err(serde::ser::Error::custom)?;
            let settings = replace_json_values(settings, &Value::Null, &NULL_TEXT.into());
            entries.push((pattern, PatternEntry { settings, schedules: self.schedules.get(pattern) }));
        }
        serializer.collect_map(entries)
    }
}

impl DeclaredSettings {
    /// The settings that are declared for a queue.
    pub fn of(&self, queue: &QueueName) -> SettingsPatch {
        self.merge_for_name(queue.as_str())
    }

    /// The settings that are declared for every queue of a pattern.
    pub fn for_pattern(&self, pattern: &QueuePattern) -> SettingsPatch {
        self.merge_for_name(pattern.as_str())
    }

    /// The names and patterns for which there are settings, in the order of their texts.
    pub fn patterns(&self) -> impl Iterator<Item = &QueuePattern> {
        self.settings.keys()
    }

    /// The queues whose exact names have an entry in the declared settings, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = QueueName> {
        self.settings.keys().filter_map(QueuePattern::queue)
    }

    /// The schedules that are declared for a queue.
    pub(crate) fn schedules_of(&self, queue: &QueueName) -> Vec<(ScheduleName, NewSchedule)> {
        let entry = self.schedules.iter().find(|(pattern, _)| pattern.as_str() == queue.as_str());
        let schedules = entry.into_iter().flat_map(|(_, schedules)| schedules);
        // A schedule that can't be read is skipped, because `validate` has refused it.
        schedules.filter_map(|(name, json)| Some((name.parse().ok()?, read_schedule(json).ok()?))).collect()
    }

    /// Checks the settings of each entry, merged with the entries of the patterns that match its name, and checks the schedules.
    ///
    /// # Errors
    ///
    /// Returns the first entry with an invalid setting or schedule, and the error.
    pub fn validate(&self) -> Result<(), (QueuePattern, InvalidSetting)> {
        // The merged settings of a queue equal the merged settings of the most exact pattern that matches the queue, because the
        // prefixes of the patterns that match one queue are prefixes of each other. So it is enough to check the merged settings of
        // each pattern.
        self.patterns().try_for_each(|pattern| {
            self.for_pattern(pattern).settings().map(drop).map_err(|invalid| (pattern.clone(), invalid))
        })?;
        for (pattern, schedules) in &self.schedules {
            let is_exclusive =
                self.for_pattern(pattern).settings().is_ok_and(|settings| settings.exclusive != Exclusive::default());
            for (name, json) in schedules {
                let check_result = match name.parse::<ScheduleName>() {
                    _ if pattern.queue().is_none() => Err((
                        String::new(),
                        "a schedule belongs to one queue: declare it under the whole name of the queue".into(),
                    )),
                    Err(invalid) => Err((String::new(), invalid.to_string())),
                    Ok(_) => match read_schedule(json) {
                        Ok(schedule) if is_exclusive && schedule.message.group.is_some() => {
                            Err(("message.group".into(), GROUP_IN_EXCLUSIVE_QUEUE.into()))
                        }
                        read => read.map(drop),
                    },
                };
                if let Err((path, problem)) = check_result {
                    let dot = if path.is_empty() { "" } else { "." };
                    let setting = format!("{SCHEDULES_KEY}.{name}{dot}{path}");
                    return Err((pattern.clone(), InvalidSetting { setting, problem, is_conflict: false }));
                }
            }
        }
        Ok(())
    }

    fn merge_for_name(&self, name: &str) -> SettingsPatch {
        let mut matching_entries: Vec<_> = self.settings.iter().filter(|(pattern, _)| pattern.matches(name)).collect();
        // Of two patterns that match one queue's name, the pattern with the longer prefix takes precedence. The entry of the
        // queue's exact name takes precedence over all patterns, even over a pattern whose prefix is the whole name.
        matching_entries.sort_by_key(|(pattern, _)| {
            (pattern.prefix().unwrap_or(pattern.as_str()).len(), pattern.prefix().is_none())
        });
        let mut merged_patch = SettingsPatch::default();
        for (_, settings) in matching_entries {
            merged_patch.extend(settings);
        }
        merged_patch
    }
}

impl FromIterator<(QueueName, SettingsPatch)> for DeclaredSettings {
    fn from_iter<I: IntoIterator<Item = (QueueName, SettingsPatch)>>(by_name: I) -> Self {
        let settings = by_name.into_iter().map(|(name, settings)| (name.into(), settings)).collect();
        Self { settings, schedules: BTreeMap::new() }
    }
}

/// Replaces each value that equals `from` by `to`, in the object and in all objects within it.
fn replace_json_values(value: Value, from: &Value, to: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, replace_json_values(value, from, to)))
            .collect::<Map<_, _>>()
            .into(),
        value if value == *from => to.clone(),
        value => value,
    }
}

/// Reads a declared schedule from JSON. The error has the path of the invalid member, and the reason.
fn read_schedule(json: &Value) -> Result<NewSchedule, (String, String)> {
    let parse_result = serde_path_to_error::deserialize(json.clone());
    let JsonObject(schedule): JsonObject<NewSchedule> = parse_result
        .map_err(|error| (error.path().to_string().trim_matches('.').to_owned(), error.into_inner().to_string()))?;
    match schedule.contradiction() {
        Some((field, detail)) => Err((field.replace('/', "."), detail.to_owned())),
        None => Ok(schedule),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared_from_json(json: Value) -> DeclaredSettings {
        serde_json::from_value(json).unwrap()
    }

    fn settings_json_of(declared: &DeclaredSettings, queue: &str) -> Value {
        serde_json::to_value(declared.of(&queue.parse().unwrap())).unwrap()
    }

    #[test]
    fn declared_settings_of_exact_names_override_longer_prefixes_which_override_shorter_prefixes() {
        let declared_settings = declared_from_json(json!({
            "*": {"max_attempts": 1, "max_lapses": 1, "timeout": "1s", "visibility_timeout": "1s"},
            "user-*": {"max_attempts": 2, "max_lapses": 2, "timeout": "2s"},
            "user-vip-*": {"max_attempts": 3, "max_lapses": 3},
            "user-vip-1": {"max_attempts": 4},
            "user-vip-1*": {"max_attempts": 5, "timeout": "5s"},
        }));
        for (queue, settings) in [
            ("other", json!({"max_attempts": 1, "max_lapses": 1, "timeout": "1s", "visibility_timeout": "1s"})),
            ("user-1", json!({"max_attempts": 2, "max_lapses": 2, "timeout": "2s", "visibility_timeout": "1s"})),
            ("user-vip-2", json!({"max_attempts": 3, "max_lapses": 3, "timeout": "2s", "visibility_timeout": "1s"})),
            ("user-vip-1", json!({"max_attempts": 4, "max_lapses": 3, "timeout": "5s", "visibility_timeout": "1s"})),
            ("user-vip-10", json!({"max_attempts": 5, "max_lapses": 3, "timeout": "5s", "visibility_timeout": "1s"})),
        ] {
            assert_eq!(settings_json_of(&declared_settings, queue), settings, "{queue}");
        }
        assert_eq!(declared_settings.names().map(|name| name.to_string()).collect::<Vec<_>>(), ["user-vip-1"]);
    }

    #[test]
    fn declared_objects_are_merged_member_by_member() {
        let declared_settings = declared_from_json(json!({
            "*": {"retention": {"completed": {"count": 5, "age": "1h"}, "failed": {"count": 7}}, "exclusive": true,
                  "rate_limit": {"max": 9, "duration": "1s"}, "backoff": {"type": "fixed", "delay": "3s"}},
            "q": {"retention": {"completed": {"count": 9}}, "exclusive": {"parallel": 3},
                  "rate_limit": {"max": 2}, "backoff": {"jitter": 0.5}},
            "r": {"exclusive": false},
        }));
        declared_settings.validate().unwrap();
        let q = settings_json_of(&declared_settings, "q");
        let retention = json!({"completed": {"count": 9, "age": "1h"}, "failed": {"count": 7}});
        assert_eq!((&q["retention"], &q["exclusive"]), (&retention, &json!({"parallel": 3})));
        let backoff = json!({"type": "fixed", "delay": "3s", "jitter": 0.5});
        assert_eq!((&q["rate_limit"], &q["backoff"]), (&json!({"max": 2, "duration": "1s"}), &backoff));
        assert_eq!(settings_json_of(&declared_settings, "r")["exclusive"], json!(false));
        assert_eq!(DeclaredSettings::default().of(&"r".parse().unwrap()), SettingsPatch::default());
    }

    #[test]
    fn null_and_the_text_none_restore_the_default_that_a_pattern_replaced() {
        let declared = declared_from_json(json!({
            "*": {"groups": {"concurrency": 3}, "max_length": 10, "timeout": "1s"},
            "a": {"groups": {"concurrency": null}, "max_length": null},
            "b": {"groups": {"concurrency": "none"}, "timeout": "none"},
            "c": {"groups": "none"},
        }));
        declared.validate().unwrap();
        let concurrency_and_length = |queue: &str| {
            let settings = declared.of(&queue.parse().unwrap()).settings().unwrap();
            (
                settings.groups.concurrency.map(|max| *max),
                settings.max_length.map(|max| *max),
                settings.timeout.is_some(),
            )
        };
        assert_eq!(concurrency_and_length("a"), (None, None, true));
        assert_eq!(concurrency_and_length("b"), (None, Some(10), false));
        assert_eq!(concurrency_and_length("c"), (Some(1), Some(10), true));
        assert_eq!(
            serde_json::to_value(&declared).unwrap()["a"],
            json!({"groups": {"concurrency": "none"}, "max_length": "none"})
        );
    }

    #[test]
    fn declared_settings_that_conflict_only_when_merged_are_refused() {
        let conflict = declared_from_json(json!({
            "*": {"retention": {"failed": {"min_age": "2h"}}},
            "a-*": {"retention": {"failed": {"age": "1h"}}},
        }));
        let (pattern, invalid) = conflict.validate().unwrap_err();
        assert_eq!((pattern.as_str(), invalid.setting.as_str()), ("a-*", "retention.failed"));
        assert!(declared_from_json(json!({"*": {"max_attempts": 5}, "a-*": {"timeout": "1h"}})).validate().is_ok());
        // A queue `a-2`, which only the pattern `a-*` matches, would have a rate limit without a duration.
        let half_declared =
            declared_from_json(json!({"a-*": {"rate_limit": {"max": 2}}, "a-1": {"rate_limit": {"duration": "1s"}}}));
        let (pattern, invalid) = half_declared.validate().unwrap_err();
        assert_eq!((pattern.as_str(), invalid.setting.as_str()), ("a-*", "rate_limit"));
    }
}
