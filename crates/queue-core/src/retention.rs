use serde::{Deserialize, Serialize};

use crate::{Millis, number};

/// For how long finished messages are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Completed ones. Defaults to 24 h and 10,000 messages.
    pub completed: Keep,
    /// Failed ones, the dead letters. Defaults to 14 days and 100,000 messages.
    pub failed: Keep,
}

/// A finished message goes when it is older than `age`, or when more than `count` are kept and it is older than
/// `min_age`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The longest that one is kept, up to 3,650 days.
    pub age: Millis,
    /// How many are kept: up to 1,000,000,000. With 0 none is kept at all: a message is gone once it has finished.
    #[serde(deserialize_with = "number::unsigned")]
    pub count: u64,
    /// The shortest that one is kept, so that its result can be read: up to `age`. Defaults to 60 s.
    pub min_age: Millis,
}

impl Default for Retention {
    fn default() -> Self {
        let min_age = Millis::from_secs(60);
        Self {
            completed: Keep { age: Millis::from_hours(24), count: 10_000, min_age },
            failed: Keep { age: Millis::from_days(14), count: 100_000, min_age },
        }
    }
}

impl Keep {
    /// Checks the ranges.
    ///
    /// # Errors
    ///
    /// What is out of range, as a sentence.
    pub fn validate(self) -> Result<(), &'static str> {
        if self.age > Millis::from_days(3_650) {
            return Err("age must be at most 3650 days");
        }
        if self.count > 1_000_000_000 {
            return Err("count must be at most 1000000000");
        }
        if self.min_age > Millis::from_days(3_650) {
            return Err("min_age must be at most 3650 days");
        }
        Ok(())
    }

    /// As the scripts read it.
    pub(crate) fn encode(self) -> String {
        format!("{},{},{}", self.age.get(), self.count, self.min_age.get())
    }

    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(',').map(str::parse::<u64>);
        let mut number = || parts.next()?.ok();
        Some(Self { age: Millis::new(number()?), count: number()?, min_age: Millis::new(number()?) })
    }
}
