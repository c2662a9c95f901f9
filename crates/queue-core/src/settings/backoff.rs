//! The pause between a failed attempt of a message and the next attempt. `lua/lib/backoff.lua` computes the pause.

use serde::{Deserialize, Deserializer, Serialize};
use strum::{EnumString, VariantNames};
use utoipa::ToSchema;

use crate::{
    json::{self, JsonObject},
    range::DurationIn,
    time::Millis,
};

/// The pause between a failed attempt and the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, from = "JsonObject<BackoffJson>")]
pub struct Backoff {
    /// The growth of the pause from attempt to attempt; defaults to `exponential`.
    #[serde(rename = "type")]
    #[schema(inline)]
    pub growth: Growth,
    /// The pause after the first failed attempt, up to 30 days; defaults to 1 s.
    #[schema(inline)]
    pub delay: BackoffPause,
    /// The longest pause, up to 30 days; defaults to 1 h. A longest pause that is shorter than `delay` counts as `delay`.
    #[schema(inline)]
    pub max: BackoffPause,
    /// The largest fraction by which the pause is shortened at random: from 0 to 1; defaults to 0.2. Random pauses keep messages
    /// that failed together from being retried together.
    #[schema(minimum = 0, maximum = 1)]
    pub jitter: f64,
}

type BackoffPause = DurationIn<0, { Millis::from_days(30).get() }>;

/// The growth of the pause from attempt to attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, EnumString, VariantNames, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Growth {
    /// The pause is always the same.
    Fixed,
    /// The pause doubles with each attempt: 1, 2, 4, 8 times the delay.
    #[default]
    Exponential,
}

impl<'de> Deserialize<'de> for Growth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::read_word(deserializer)
    }
}

/// The JSON of a back-off. A member that is absent or null has its default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackoffJson {
    #[serde(rename = "type")]
    growth: Option<Growth>,
    delay: Option<BackoffPause>,
    max: Option<BackoffPause>,
    jitter: Option<Fraction>,
}

impl From<JsonObject<BackoffJson>> for Backoff {
    fn from(JsonObject(given): JsonObject<BackoffJson>) -> Self {
        let defaults = Self::default();
        Self {
            growth: given.growth.unwrap_or_default(),
            delay: given.delay.unwrap_or(defaults.delay),
            max: given.max.unwrap_or(defaults.max),
            jitter: given.jitter.map_or(defaults.jitter, |Fraction(jitter)| jitter),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        const DEFAULT_DELAY: BackoffPause = BackoffPause::of(Millis::from_secs(1));
        const MAX: BackoffPause = BackoffPause::of(Millis::from_hours(1));
        Self { growth: Growth::default(), delay: DEFAULT_DELAY, max: MAX, jitter: 0.2 }
    }
}

/// A number from 0 to 1, in whole thousandths, because the scripts read the number as a short decimal.
#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Fraction(f64);

impl TryFrom<f64> for Fraction {
    type Error = &'static str;

    fn try_from(share: f64) -> Result<Self, &'static str> {
        if !(0.0..=1.0).contains(&share) {
            return Err("must be a number from 0 to 1");
        }
        Ok(Self((share * 1_000.0).round().abs() / 1_000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_refuses_members_that_are_out_of_range() {
        for json in [r#"{"jitter":1.1}"#, r#"{"jitter":-0.1}"#, r#"{"delay":"31d"}"#, r#"{"max":"31d"}"#] {
            assert!(serde_json::from_str::<Backoff>(json).is_err(), "{json}");
        }
        assert_eq!(serde_json::from_str::<Backoff>("{}").unwrap(), Backoff::default());
    }
}
