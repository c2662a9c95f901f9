//! Instants by Redis's clock and durations, in whole milliseconds, and how they are read and written. Nothing that is read
//! comes out earlier or shorter than its text says.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::number;

/// An instant by Redis's clock, in whole milliseconds. As text RFC 3339 in UTC, always with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The first instant that no message may be due at: 2200-01-01, so that every instant has 13 digits.
    pub const LIMIT: Self = Self(7_258_118_400_000);

    /// From milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Millis> for Timestamp {
    type Output = Self;

    fn add(self, duration: Millis) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        write!(f, "{:.3}", instant.unwrap_or(jiff::Timestamp::MAX))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rfc3339;
        impl de::Visitor<'_> for Rfc3339 {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 instant such as \"2030-01-31T09:30:00Z\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                let instant: jiff::Timestamp =
                    text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                // Rounded up: a message must not be due before the instant that was asked for.
                let millis = instant.as_nanosecond().max(0).unsigned_abs().div_ceil(1_000_000);
                let leap = if names_leap_second(text) { Millis::from_secs(1) } else { Millis::ZERO };
                match u64::try_from(millis).map(|millis| Timestamp(millis) + leap) {
                    Ok(timestamp) if timestamp < Timestamp::LIMIT => Ok(timestamp),
                    _ => Err(E::custom("an instant must lie before the year 2200")),
                }
            }
        }
        deserializer.deserialize_str(Rfc3339)
    }
}

/// Whether an instant is in a second 60, which the parser takes for second 59. No clock that counts from 1970 has it: what
/// is due then is due in the next second.
fn names_leap_second(text: &str) -> bool {
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    let digits = time.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b':').filter(|byte| *byte != b':');
    digits.skip(4).eq(*b"60")
}

/// A duration in whole milliseconds.
///
/// Reads an integer (milliseconds) or a text with units (`"1500ms"`, `"2s"`, `"1h 30m"`); writes an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Default)]
#[serde(transparent)]
pub struct Millis(u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From milliseconds.
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// From seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000)
    }

    /// From hours.
    pub const fn from_hours(hours: u64) -> Self {
        Self::from_secs(hours * 3_600)
    }

    /// From days.
    pub const fn from_days(days: u64) -> Self {
        Self::from_hours(days * 24)
    }

    /// The number of milliseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same as the standard library has it.
    pub const fn to_std(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Whether there is no time in it.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// As a person would write it: `1h 30m`.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.to_std()).fmt(f)
    }
}

impl std::str::FromStr for Millis {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        if text.starts_with('+') {
            return Err(InvalidDuration);
        }
        let millis = match text.parse::<u64>() {
            Ok(millis) => u128::from(millis),
            // Rounded up: never shorter than what was asked for.
            Err(_) => humantime::parse_duration(text).map_err(|_| InvalidDuration)?.as_nanos().div_ceil(1_000_000),
        };
        u64::try_from(millis).map(Self).map_err(|_| InvalidDuration)
    }
}

/// A text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", Self::EXPECTED)]
pub struct InvalidDuration;

impl InvalidDuration {
    const EXPECTED: &str =
        "a duration: milliseconds as a whole number, or a text such as \"1500ms\", \"2s\" or \"1h 30m\"";
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerOrText;
        impl de::Visitor<'_> for IntegerOrText {
            type Value = Millis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(InvalidDuration::EXPECTED)
            }

            fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Millis, E> {
                Ok(Millis(millis))
            }

            fn visit_i64<E: de::Error>(self, millis: i64) -> Result<Millis, E> {
                u64::try_from(millis).map(Millis).map_err(|_| E::custom("a duration must not be negative"))
            }

            fn visit_f64<E: de::Error>(self, millis: f64) -> Result<Millis, E> {
                // In JSON 5.0 is the same number as 5.
                match number::whole(millis) {
                    Some(millis) => self.visit_i64(millis),
                    None => Err(E::invalid_value(de::Unexpected::Float(millis), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Millis, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(IntegerOrText)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(json: &str) -> Result<Millis, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn durations_are_integers_or_texts_with_units() {
        assert_eq!(millis("1500").unwrap(), Millis(1_500));
        assert_eq!(millis("1500.0").unwrap(), Millis(1_500));
        assert_eq!(millis("\"1500ms\"").unwrap(), Millis(1_500));
        assert_eq!(millis("\"2s\"").unwrap(), Millis(2_000));
        assert_eq!(millis("\"1h 30m\"").unwrap(), Millis(5_400_000));
        assert_eq!(millis("\"1us\"").unwrap(), Millis(1), "rounded up, never early");
        for bad in
            ["-1", "1.5", "\"\"", "\"soon\"", "null", "true", "\"-1s\"", "\"+5\"", "1e400", "99999999999999999999"]
        {
            assert!(millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants_are_rfc_3339_with_milliseconds() {
        let instant = Timestamp::from_millis(1_795_424_400_000);
        let text = serde_json::to_string(&instant).unwrap();
        assert_eq!(text, "\"2026-11-23T09:00:00.000Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), instant);
        let with_offset: Timestamp = serde_json::from_str("\"2026-11-23T10:00:00.0001+01:00\"").unwrap();
        assert_eq!(with_offset.as_millis(), 1_795_424_400_001, "rounded up, never early");
        for bad in [
            "\"2026-11-23T23:59:61Z\"",
            "\"2199-12-31T23:59:60Z\"",
            "\"tomorrow\"",
            "1795424400000",
            "\"2200-01-01T00:00:00Z\"",
            "\"2026-11-23\"",
        ] {
            assert!(serde_json::from_str::<Timestamp>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_leap_second_is_read_as_the_second_after_it() {
        let read = |text: &str| serde_json::from_value::<Timestamp>(text.into()).unwrap().to_string();
        for (text, instant) in [
            ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00.000Z"),
            ("2026-12-31T23:59:60.250Z", "2027-01-01T00:00:00.250Z"),
            ("2026-12-31t23:59:60.9999z", "2027-01-01T00:00:01.000Z"),
            ("2027-01-01 00:59:60+01:00", "2027-01-01T00:00:00.000Z"),
            ("20261231T235960Z", "2027-01-01T00:00:00.000Z"),
            ("2026-12-31T23:59:59Z", "2026-12-31T23:59:59.000Z"),
            ("2026-12-31T23:60:00Z", "an error"),
            ("2026-12-31T22:59:59.60Z", "2026-12-31T22:59:59.600Z"),
            ("2026-12-31T23:59:00+00:60", "an error"),
        ] {
            if instant == "an error" {
                assert!(serde_json::from_value::<Timestamp>(text.into()).is_err(), "{text}");
            } else {
                assert_eq!(read(text), instant, "{text}");
            }
        }
    }
}
