//! Instants by Redis's clock, and durations. Instants and durations are in whole milliseconds, and have a text and a JSON form.
//! An instant that is read is never earlier than its text says, because fractions of a millisecond are rounded up.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type},
};

use crate::{number, parse_error::ParseError};

/// An instant by Redis's clock, in whole milliseconds. The text of an instant is RFC 3339 in UTC, always with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 2200-01-01: every due time must be earlier, so that every instant has 13 digits.
    pub const LIMIT: Self = Self(7_258_118_400_000);

    /// Makes an instant from milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The number of milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The duration since `earlier`; zero if `earlier` is later than this instant.
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
                // The instant is rounded up, because a message must not be due before the requested instant.
                let millis = instant.as_nanosecond().max(0).unsigned_abs().div_ceil(1_000_000);
                let leap_second = if is_in_leap_second(text) { Millis::from_secs(1) } else { Millis::ZERO };
                match u64::try_from(millis).map(|millis| Timestamp(millis) + leap_second) {
                    Ok(timestamp) if timestamp < Timestamp::LIMIT => Ok(timestamp),
                    _ => Err(E::custom("an instant must lie before the year 2200")),
                }
            }
        }
        deserializer.deserialize_str(Rfc3339)
    }
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        let text_schema = ObjectBuilder::new().schema_type(Type::String);
        let text_schema = text_schema.format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
        let text_schema = text_schema.description(Some("By Redis's clock, in UTC with milliseconds"));
        text_schema.examples(["2026-11-23T11:13:13.727Z"]).into()
    }
}

impl ToSchema for Timestamp {
    fn name() -> Cow<'static, str> {
        "Instant".into()
    }
}

/// Whether the text of an instant has the second 60, a leap second. The parser of `jiff` reads the second 60 as 59. As Unix time
/// has no leap seconds, reading a `Timestamp` adds one second to an instant with the second 60.
fn is_in_leap_second(text: &str) -> bool {
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    let digits = time.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b':').filter(|byte| *byte != b':');
    digits.skip(4).eq(*b"60")
}

/// A duration in whole milliseconds.
///
/// A duration is read from an integer (milliseconds), or from a text with the units `w`, `d`, `h`, `m`, `s` and `ms`, the longest
/// first (`"1500ms"`, `"2s"`, `"1h 30m"`). A duration is written as an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Default)]
#[serde(transparent)]
pub struct Millis(u64);

impl Millis {
    /// A duration of zero.
    pub const ZERO: Self = Self(0);

    /// Makes a duration from milliseconds.
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// Makes a duration from seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000)
    }

    /// Makes a duration from hours.
    pub const fn from_hours(hours: u64) -> Self {
        Self::from_secs(hours * 3_600)
    }

    /// Makes a duration from days.
    pub const fn from_days(days: u64) -> Self {
        Self::from_hours(days * 24)
    }

    /// Returns the number of milliseconds of the duration.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Converts the duration to the `Duration` of the standard library.
    pub const fn to_std(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Whether the duration is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// The units of a duration, the longest first, in milliseconds. Months and years are missing, because they have no fixed length.
pub(crate) const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Writes the duration with units, such as `1h 30m`; the text reads back as the same duration. Weeks are written as days.
impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut remaining_millis = self.0;
        let mut unit_separator = "";
        for (unit, millis) in &UNITS[1..] {
            let count = remaining_millis / millis;
            remaining_millis %= millis;
            if count > 0 {
                write!(f, "{unit_separator}{count}{unit}")?;
                unit_separator = " ";
            }
        }
        if self.is_zero() { f.write_str("0s") } else { Ok(()) }
    }
}

const NOT_A_DURATION: &str = "must be a duration: a whole number of milliseconds, or a text with the units ms, s, m, h, d and w, such as \
                       \"1500ms\", \"2s\" or \"1h 30m\"";

impl std::str::FromStr for Millis {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self).map_err(|_| NOT_A_DURATION.into());
        }
        let mut units = UNITS.iter();
        let mut millis: u64 = 0;
        let mut remaining_text = text.trim_ascii();
        // A duration has at least one part, and each part has a shorter unit than the part before.
        loop {
            let (count, after) = split_while(remaining_text, |char| char.is_ascii_digit());
            let (unit, after) = split_while(after.trim_ascii_start(), |char| char.is_ascii_alphabetic());
            let (_, in_millis) = units.find(|(known, _)| *known == unit).ok_or(NOT_A_DURATION)?;
            let count: u64 = count.parse().map_err(|_| NOT_A_DURATION)?;
            let part = count.checked_mul(*in_millis).ok_or(NOT_A_DURATION)?;
            millis = millis.checked_add(part).ok_or(NOT_A_DURATION)?;
            remaining_text = after.trim_ascii_start();
            if remaining_text.is_empty() {
                return Ok(Self(millis));
            }
        }
    }
}

/// Splits a text after its first characters that satisfy `belongs`.
fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|char| !belongs(char)).unwrap_or(text.len()))
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerOrText;
        impl de::Visitor<'_> for IntegerOrText {
            type Value = Millis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(NOT_A_DURATION.trim_start_matches("must be "))
            }

            fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Millis, E> {
                Ok(Millis(millis))
            }

            fn visit_i64<E: de::Error>(self, millis: i64) -> Result<Millis, E> {
                u64::try_from(millis).map(Millis).map_err(|_| E::custom("a duration must not be negative"))
            }

            fn visit_f64<E: de::Error>(self, millis: f64) -> Result<Millis, E> {
                // In JSON 5.0 is the same number as 5.
                match number::to_whole(millis) {
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

    fn parse_duration(json: &str) -> Result<Millis, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn durations_are_integers_or_texts_with_units() {
        assert_eq!(parse_duration("1500").unwrap(), Millis(1_500));
        assert_eq!(parse_duration("1500.0").unwrap(), Millis(1_500));
        assert_eq!(parse_duration("\"1500ms\"").unwrap(), Millis(1_500));
        assert_eq!(parse_duration("\"2s\"").unwrap(), Millis(2_000));
        assert_eq!(parse_duration("\"1h 30m\"").unwrap(), Millis(5_400_000));
        assert_eq!(parse_duration("\"1w 2d 3h 4m 5s 6ms\"").unwrap(), Millis(788_645_006));
        for same in ["\"90m\"", "\"1h30m\"", "\"1h  30 m\"", "\" 1h 30m \"", "\"5400000\"", "\"0d 001h 30m\""] {
            assert_eq!(parse_duration(same).unwrap(), Millis(5_400_000), "{same}");
        }
        for invalid in ["-1", "1.5", "null", "true", "1e400", "99999999999999999999"] {
            assert!(parse_duration(invalid).is_err(), "{invalid}");
        }
        let invalid_texts = "| |soon|s|-1s|+5|+5s|1.5s|1M|1y|5 parsecs|1us|1ns|1min|2 hours|1H|1h 30|30 1h|1s 1s|1m 1h|1h, 30m|1 000|\
                   99999999999999999999|30500568905w|1\u{a0}s|١s";
        for invalid in invalid_texts.split('|') {
            let error = parse_duration(&serde_json::to_string(invalid).unwrap()).unwrap_err().to_string();
            assert!(error.contains("units ms, s, m, h, d and w"), "{invalid}: {error}");
        }
    }

    #[test]
    fn the_text_of_a_duration_reads_back() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (60_000, "1m"),
            (5_400_000, "1h 30m"),
            (604_800_000, "7d"),
            (2_592_000_000, "30d"),
            (90_061_001, "1d 1h 1m 1s 1ms"),
            (u64::MAX, "213503982334d 14h 25m 51s 615ms"),
        ] {
            assert_eq!(Millis(millis).to_string(), text);
            assert_eq!(text.parse(), Ok(Millis(millis)));
        }
    }

    #[test]
    fn instants_are_rfc_3339_with_milliseconds() {
        let instant = Timestamp::from_millis(1_795_424_400_000);
        let instant_json = serde_json::to_string(&instant).unwrap();
        assert_eq!(instant_json, "\"2026-11-23T09:00:00.000Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&instant_json).unwrap(), instant);
        let instant_with_offset: Timestamp = serde_json::from_str("\"2026-11-23T10:00:00.0001+01:00\"").unwrap();
        assert_eq!(instant_with_offset.as_millis(), 1_795_424_400_001, "rounded up, never early");
        for invalid in [
            "\"2026-11-23T23:59:61Z\"",
            "\"2199-12-31T23:59:60Z\"",
            "\"tomorrow\"",
            "1795424400000",
            "\"2200-01-01T00:00:00Z\"",
            "\"2026-11-23\"",
        ] {
            assert!(serde_json::from_str::<Timestamp>(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn leap_second_is_read_as_the_following_second() {
        let parse_instant = |text: &str| serde_json::from_value::<Timestamp>(text.into()).unwrap().to_string();
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
                assert_eq!(parse_instant(text), instant, "{text}");
            }
        }
    }
}
