//! The settings of a queue. This module defines each setting once: its name, its type (with its range and its JSON form) and its
//! default. The merge patches, the fields of `meta`, the defaults in the scripts and the schemas derive from the struct `Settings`.

pub(crate) mod backoff;
pub(crate) mod declared;
mod duration_pattern;
mod exclusive;
mod groups;
pub(crate) mod patch;
mod pattern;
pub(crate) mod rate_limit;
mod retention;
pub(crate) mod schema;

use std::collections::BTreeMap;

pub use declared::DeclaredSettings;
pub use patch::SettingsPatch;
pub use pattern::QueuePattern;
pub use rate_limit::RateLimit;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use utoipa::ToSchema;

use crate::{
    range::{DurationIn, NumberIn},
    time::Millis,
};

use backoff::Backoff;
use exclusive::Exclusive;
use groups::Groups;
use retention::Retention;

/// The settings of a queue, which say how the queue treats its messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long a lease lasts unless it is extended: 100 ms to 24 h; defaults to 30 s.
    #[schema(inline)]
    pub visibility_timeout: LeaseTime,
    /// How many attempts a message has: 1 to 1,000; defaults to 3.
    #[schema(inline)]
    pub max_attempts: NumberIn<1, 1_000>,
    /// The pause before the next attempt; defaults to exponential from 1 s to at most 1 h, with a jitter of 0.2.
    #[schema(inline)]
    pub backoff: Backoff,
    /// How many lapses make a message fail: 1 to 1,000; defaults to 3.
    #[schema(inline)]
    pub max_lapses: NumberIn<1, 1_000>,
    /// The maximum number of leases in a window of time, over all consumers; defaults to no limit.
    #[schema(inline)]
    pub rate_limit: Option<RateLimit>,
    /// Whether only one consumer at a time has access to the queue; defaults to `false`.
    #[schema(inline)]
    pub exclusive: Exclusive,
    /// How many messages of one group are active at a time.
    #[schema(inline)]
    pub groups: Groups,
    /// How long one run may take before it counts as a failed attempt: 1 ms to 7 days; defaults to none.
    #[schema(inline)]
    pub timeout: Option<RunTime>,
    /// For how long an `Idempotency-Key` is remembered: 1 s to 30 days; defaults to 1 h.
    #[schema(inline)]
    pub idempotency_window: IdempotencyWindow,
    /// How long a producer's own id stays taken after its message has finished, even if the message is no longer kept: up to 30
    /// days; defaults to 1 h. With an `id_window` of 0 the producer's own id is free as soon as the message is no longer kept.
    #[schema(inline)]
    pub id_window: OwnIdWindow,
    /// The maximum number of unfinished messages in the queue: 1 to 1,000,000,000; defaults to no limit.
    #[schema(inline)]
    pub max_length: Option<NumberIn<1, 1_000_000_000>>,
    /// For how long finished messages are kept.
    #[schema(inline)]
    pub retention: Retention,
}

/// The visibility timeout of a lease.
pub(crate) type LeaseTime = DurationIn<{ Settings::SHORTEST_LEASE.get() }, { Settings::LONGEST_LEASE.get() }>;
/// The timeout of a run.
pub(crate) type RunTime = DurationIn<1, { Millis::from_days(7).get() }>;
type IdempotencyWindow = DurationIn<1_000, { Millis::from_days(30).get() }>;
type OwnIdWindow = DurationIn<0, { Millis::from_days(30).get() }>;

impl Default for Settings {
    fn default() -> Self {
        Self {
            visibility_timeout: const { LeaseTime::of(Millis::from_secs(30)) },
            max_attempts: const { NumberIn::of(3) },
            backoff: Backoff::default(),
            max_lapses: const { NumberIn::of(3) },
            rate_limit: None,
            exclusive: Exclusive::default(),
            groups: Groups::default(),
            timeout: None,
            idempotency_window: const { DurationIn::of(Millis::from_hours(1)) },
            id_window: const { DurationIn::of(Millis::from_hours(1)) },
            max_length: None,
            retention: Retention::default(),
        }
    }
}

/// The settings whose members are stored as separate fields of `meta`, because each may be declared alone.
const NESTED_SETTINGS: [&str; 2] = ["groups", "retention"];

impl Settings {
    /// The minimum visibility timeout.
    pub const SHORTEST_LEASE: Millis = Millis::new(100);
    /// The maximum visibility timeout.
    pub const LONGEST_LEASE: Millis = Millis::from_hours(24);

    /// The fields of the hash `meta` that store the settings: each setting's JSON, which the scripts read, or an empty text for
    /// the default.
    pub(crate) fn meta_fields(&self) -> BTreeMap<String, String> {
        let defaults = Self::default().all_meta_fields();
        let empty_if_default =
            |(name, text): (String, String)| if defaults[&name] == text { (name, String::new()) } else { (name, text) };
        self.all_meta_fields().into_iter().map(empty_if_default).collect()
    }

    /// The fields of `meta` with the JSON of all settings, including defaults.
    pub(crate) fn all_meta_fields(&self) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (name, json) in json_members(&serde_json::to_string(self).expect("settings have a JSON form")) {
            if NESTED_SETTINGS.contains(&name.as_str()) {
                texts.extend(
                    json_members(json.get()).into_iter().map(|(member, json)| (format!("{name}.{member}"), json)),
                );
            } else {
                texts.insert(name, json);
            }
        }
        texts.into_iter().map(|(name, json)| (name, json.get().to_owned())).collect()
    }

    /// Reads the settings from fields of `meta`. Fields of `meta` that are no settings are ignored, and so are invalid values,
    /// which Drover did not write.
    pub(crate) fn from_stored<'m>(meta: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let mut settings = Self::default();
        for (name, text) in meta {
            let Ok(value) = serde_json::from_str::<Value>(text) else { continue };
            let patch = match name.split_once('.') {
                Some((object, member)) => json!({object: {member: value}}),
                None => json!({name: value}),
            };
            if let Ok(patched) = settings.with_patch(&patch) {
                settings = patched;
            }
        }
        settings
    }
}

/// The members of a JSON object, each as unparsed JSON.
fn json_members(json: &str) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(json).expect("the text is a JSON object")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::patch::SettingsPatch;

    #[test]
    fn declared_settings_read_back_from_their_stored_form_and_others_stay_default() {
        let patch = json!({
            "visibility_timeout": "2s", "max_attempts": 7, "backoff": {"type": "fixed", "delay": 10}, "max_lapses": 9,
            "rate_limit": {"max": 3, "duration": "1s"}, "exclusive": {"parallel": 4}, "timeout": "1m", "max_length": 5,
            "idempotency_window": "2h", "id_window": "3h", "retention": {"completed": {"count": 5}},
        });
        let settings = Settings::default().with_patch(&patch).unwrap();
        let declared_patch: SettingsPatch = serde_json::from_value(patch).unwrap();
        let stored_fields = declared_patch.meta_fields();
        assert_eq!(stored_fields.len(), 11, "only declared settings are stored: {stored_fields:?}");
        assert!(stored_fields.values().all(|text| !text.is_empty()), "{stored_fields:?}");
        let read_settings =
            Settings::from_stored(stored_fields.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        assert_eq!(read_settings, settings);
        assert_eq!(*read_settings.visibility_timeout, Millis::from_secs(2));
        assert_eq!(
            (*read_settings.retention.completed.count, &read_settings.retention.failed),
            (5, &Retention::default().failed)
        );
        assert!(Settings::default().meta_fields().values().all(String::is_empty));
        let groups: SettingsPatch = serde_json::from_value(json!({"groups": {"concurrency": 7}})).unwrap();
        assert_eq!(groups.meta_fields().into_iter().collect::<Vec<_>>(), [("groups.concurrency".into(), "7".into())]);
    }

    #[test]
    fn fields_of_meta_that_are_no_settings_are_ignored() {
        let meta =
            [("layout", "3"), ("max_attempts", "x"), ("timeout", "0"), ("max_lapses", "7"), ("retention.x", "1")];
        let read_settings = Settings::from_stored(meta);
        assert_eq!(read_settings, Settings { max_lapses: NumberIn::of(7), ..Settings::default() });
    }
}
