use serde::{Deserialize, Serialize};

use crate::Millis;

/// The pause between a failed attempt and the next. The rule itself stands in `lua/fragments/backoff.lua`.
///
/// As text in JSON: `{"type": "exponential", "delay": 1000, "max": "1h", "jitter": 0.2}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// How the pause grows. Defaults to `exponential`.
    #[serde(rename = "type", default)]
    pub growth: Growth,
    /// The pause after the first failed attempt, up to 30 days. Defaults to 1 s.
    #[serde(default = "Backoff::default_delay")]
    pub delay: Millis,
    /// The longest pause, up to 30 days; never shorter than `delay`. Defaults to 1 h.
    #[serde(default = "Backoff::default_max")]
    pub max: Millis,
    /// How much of the pause may be taken away at random, so that messages that failed together do not come back
    /// together: 0 (nothing) to 1 (all). Defaults to 0.2.
    #[serde(default = "Backoff::default_jitter")]
    pub jitter: f64,
}

/// How the pause grows from attempt to attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// Always the same.
    Fixed,
    /// Doubled with each attempt made: 1, 2, 4, 8 times the delay.
    #[default]
    Exponential,
}

impl Backoff {
    /// The longest `delay` and `max`: 30 days.
    pub const LONGEST: Millis = Millis::from_days(30);

    fn default_delay() -> Millis {
        Millis::from_secs(1)
    }

    fn default_max() -> Millis {
        Millis::from_hours(1)
    }

    fn default_jitter() -> f64 {
        0.2
    }

    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// What is out of range, as a sentence.
    pub fn validate(&self) -> Result<(), &'static str> {
        if self.delay > Self::LONGEST || self.max > Self::LONGEST {
            return Err("a back-off's delay and max are at most 30 days");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err("a back-off's jitter is a number from 0 to 1");
        }
        Ok(())
    }

    /// As the scripts read it.
    pub(crate) fn encode(&self) -> String {
        let letter = match self.growth {
            Growth::Fixed => 'f',
            Growth::Exponential => 'e',
        };
        format!("{letter},{},{},{:.3}", self.delay.get(), self.max.get(), self.jitter.abs())
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let growth = match parts.next()? {
            "f" => Growth::Fixed,
            "e" => Growth::Exponential,
            _ => return None,
        };
        let mut millis = || parts.next()?.parse().ok().map(Millis::new);
        let (delay, max) = (millis()?, millis()?);
        Some(Self { growth, delay, max, jitter: parts.next()?.parse().ok()? })
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            growth: Growth::default(),
            delay: Self::default_delay(),
            max: Self::default_max(),
            jitter: Self::default_jitter(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_reads_back() {
        for json in ["{}", r#"{"type":"fixed","delay":"2h","jitter":0}"#, r#"{"delay":5,"max":"1d","jitter":1}"#] {
            let backoff: Backoff = serde_json::from_str(json).unwrap();
            backoff.validate().unwrap();
            let decoded = Backoff::decode(&backoff.encode()).unwrap();
            assert_eq!(decoded, backoff);
        }
    }

    #[test]
    fn ranges_are_checked() {
        for json in [r#"{"jitter":1.1}"#, r#"{"jitter":-0.1}"#, r#"{"delay":"31d"}"#, r#"{"max":"31d"}"#] {
            assert!(serde_json::from_str::<Backoff>(json).unwrap().validate().is_err(), "{json}");
        }
    }
}
