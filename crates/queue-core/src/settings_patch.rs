use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Exclusive, Growth, InvalidSetting, MaxAttempts, MaxLapses, Millis, Settings, number};

/// Settings as they are declared for a queue: what is absent stays as it is.
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
    pub backoff: Option<BackoffPatch>,
    /// See [`Settings::max_lapses`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lapses: Option<MaxLapses>,
    /// See [`Settings::rate_limit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimitPatch>,
    /// See [`Settings::exclusive`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<Exclusive>,
    /// See [`Settings::timeout`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
    /// See [`Settings::idempotency_window`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_window: Option<Millis>,
    /// See [`Settings::id_window`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_window: Option<Millis>,
    /// See [`Settings::max_length`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// See [`Settings::retention`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionPatch>,
}

/// See [`Backoff`](crate::Backoff). What is absent takes its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackoffPatch {
    /// See [`Backoff::growth`](crate::Backoff::growth).
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// See [`Backoff::delay`](crate::Backoff::delay).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Millis>,
    /// See [`Backoff::max`](crate::Backoff::max).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Millis>,
    /// See [`Backoff::jitter`](crate::Backoff::jitter).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// See [`RateLimit`](crate::RateLimit). The settings of a queue must have both members, which may come from several patches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitPatch {
    /// See [`RateLimit::max`](crate::RateLimit::max).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "number::optional")]
    pub max: Option<u32>,
    /// See [`RateLimit::duration`](crate::RateLimit::duration).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Millis>,
}

/// See [`Retention`](crate::Retention).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPatch {
    /// See [`Retention::completed`](crate::Retention::completed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<KeepPatch>,
    /// See [`Retention::failed`](crate::Retention::failed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<KeepPatch>,
}

/// See [`Keep`](crate::Keep). What is absent takes its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepPatch {
    /// See [`Keep::age`](crate::Keep::age).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<Millis>,
    /// See [`Keep::count`](crate::Keep::count).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// See [`Keep::min_age`](crate::Keep::min_age).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_age: Option<Millis>,
}

impl SettingsPatch {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// The first setting that is out of range, and its range.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        Settings::default().patched(&self.as_json()).map(drop)
    }

    /// As `meta` holds them: those that are declared, and no others.
    pub(crate) fn encode(&self) -> Vec<(&'static str, String)> {
        let json = self.as_json();
        let settings = Settings::default().patched(&json).unwrap_or_default();
        let is_declared = |field: &str| json.pointer(&format!("/{}", field.replace('.', "/"))).is_some();
        settings.encode().into_iter().filter(|(field, _)| is_declared(field)).collect()
    }

    pub(crate) fn as_json(&self) -> Value {
        serde_json::to_value(self).expect("settings have a JSON form")
    }
}
