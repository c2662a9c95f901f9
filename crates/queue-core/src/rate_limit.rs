use serde::{Deserialize, Serialize};

use crate::{Millis, number};

/// At most `max` leases in any window of `duration`, wherever it starts, over all consumers, by Redis's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many leases: 1 to 1,000,000.
    #[serde(deserialize_with = "number::unsigned")]
    pub max: u32,
    /// The window: 1 ms to 24 h.
    pub duration: Millis,
}

impl RateLimit {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// What is out of range, as a sentence.
    pub fn validate(&self) -> Result<(), &'static str> {
        if !(1..=1_000_000).contains(&self.max) {
            return Err("max must be 1 to 1000000");
        }
        if !(Millis::new(1)..=Millis::from_hours(24)).contains(&self.duration) {
            return Err("duration must be 1 ms to 24 h");
        }
        Ok(())
    }

    /// As the scripts read it.
    pub(crate) fn encode(self) -> String {
        format!("{},{}", self.max, self.duration.get())
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        let (max, duration) = text.split_once(',')?;
        Some(Self { max: max.parse().ok()?, duration: Millis::new(duration.parse().ok()?) })
    }
}
