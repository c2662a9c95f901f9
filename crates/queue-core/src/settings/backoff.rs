//! The pause between a failed attempt of a message and the next one. The rule itself stands in `lua/fragments/backoff.lua`.

use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

use super::range::Span;
use crate::Millis;

/// The pause between a failed attempt and the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// How the pause grows. Defaults to `exponential`.
    #[serde(rename = "type", default)]
    #[schema(inline)]
    pub growth: Growth,
    /// The pause after the first failed attempt, up to 30 days. Defaults to 1 s.
    #[serde(default = "Backoff::default_delay")]
    #[schema(inline)]
    pub delay: Pause,
    /// The longest pause, up to 30 days; never shorter than `delay`. Defaults to 1 h.
    #[serde(default = "Backoff::default_max")]
    #[schema(inline)]
    pub max: Pause,
    /// How much of the pause may be taken away at random, so that messages that failed together do not come back
    /// together: 0 (nothing) to 1 (all). Defaults to 0.2.
    #[serde(default = "Backoff::default_jitter", deserialize_with = "share")]
    #[schema(minimum = 0, maximum = 1)]
    pub jitter: f64,
}

type Pause = Span<0, { Millis::from_days(30).get() }>;

/// How the pause grows from attempt to attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// Always the same.
    Fixed,
    /// Doubled with each attempt made: 1, 2, 4, 8 times the delay.
    #[default]
    Exponential,
}

impl Backoff {
    fn default_delay() -> Pause {
        const { Pause::of(Millis::from_secs(1)) }
    }

    fn default_max() -> Pause {
        const { Pause::of(Millis::from_hours(1)) }
    }

    fn default_jitter() -> f64 {
        0.2
    }
}

impl Default for Backoff {
    fn default() -> Self {
        let (delay, max) = (Self::default_delay(), Self::default_max());
        Self { growth: Growth::default(), delay, max, jitter: Self::default_jitter() }
    }
}

/// A number from 0 to 1, in whole thousandths, as the scripts read it.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if !(0.0..=1.0).contains(&share) {
        return Err(de::Error::custom("must be a number from 0 to 1"));
    }
    Ok((share * 1_000.0).round().abs() / 1_000.0)
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
