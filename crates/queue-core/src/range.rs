//! Numbers and durations with a range. Each type with a range refuses values outside the range, and names the range in its errors
//! and its schema. Because the limits are in the types, the type of an option or a setting describes all its valid values.

use std::{fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ObjectBuilder, Type},
    },
};

use crate::{number::WholeNumber, parse_error::ParseError, time::Millis};

/// A duration of `MIN` to `MAX` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DurationIn<const MIN: u64, const MAX: u64>(Millis);

/// A whole number from `MIN` to `MAX`. The default is 0, or the number of the range that is nearest to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct NumberIn<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: u64, const MAX: u64> DurationIn<MIN, MAX> {
    /// The minimum of the durations of this type.
    pub const MIN: Millis = Millis::new(MIN);
    /// The maximum of the durations of this type.
    pub const MAX: Millis = Millis::new(MAX);

    /// Makes a default value. A constant that is out of range does not compile.
    pub(crate) const fn of(duration: Millis) -> Self {
        assert!(MIN <= duration.get() && duration.get() <= MAX, "the default is out of its range");
        Self(duration)
    }
}

impl<const MIN: i64, const MAX: i64> NumberIn<MIN, MAX> {
    /// Makes a default value. A constant that is out of range does not compile.
    pub(crate) const fn of(number: i64) -> Self {
        assert!(MIN <= number && number <= MAX, "the default is out of its range");
        Self(number)
    }
}

impl<const MIN: u64, const MAX: u64> TryFrom<Millis> for DurationIn<MIN, MAX> {
    type Error = ParseError;

    fn try_from(duration: Millis) -> Result<Self, ParseError> {
        let (min, max) = (Self::MIN, Self::MAX);
        if (min..=max).contains(&duration) {
            Ok(Self(duration))
        } else {
            Err(ParseError(format!("must be {min} to {max}").into()))
        }
    }
}

impl<const MIN: i64, const MAX: i64> Default for NumberIn<MIN, MAX> {
    fn default() -> Self {
        Self(0.clamp(MIN, MAX))
    }
}

impl<const MIN: i64, const MAX: i64> TryFrom<i64> for NumberIn<MIN, MAX> {
    type Error = ParseError;

    fn try_from(number: i64) -> Result<Self, ParseError> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(ParseError(format!("must be a whole number from {MIN} to {MAX}").into()))
        }
    }
}

impl<const MIN: i64, const MAX: i64> FromStr for NumberIn<MIN, MAX> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // A text that is not a number, or has a plus sign, counts as a number outside every range.
        let number = Some(text).filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok());
        number.unwrap_or(i64::MIN).try_into()
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for DurationIn<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Millis::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for NumberIn<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        WholeNumber::deserialize(deserializer)?.0.try_into().map_err(de::Error::custom)
    }
}

impl<const MIN: u64, const MAX: u64> Deref for DurationIn<MIN, MAX> {
    type Target = Millis;

    fn deref(&self) -> &Millis {
        &self.0
    }
}

impl<const MIN: i64, const MAX: i64> Deref for NumberIn<MIN, MAX> {
    type Target = i64;

    fn deref(&self) -> &i64 {
        &self.0
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for DurationIn<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: i64, const MAX: i64> fmt::Display for NumberIn<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: u64, const MAX: u64> PartialSchema for DurationIn<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        Millis::schema_within(Self::MIN, Self::MAX).into()
    }
}

impl<const MIN: u64, const MAX: u64> ToSchema for DurationIn<MIN, MAX> {}

impl<const MIN: i64, const MAX: i64> PartialSchema for NumberIn<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        let json_bound = |number: i64| isize::try_from(number).ok();
        ObjectBuilder::new().schema_type(Type::Integer).minimum(json_bound(MIN)).maximum(json_bound(MAX)).into()
    }
}

impl<const MIN: i64, const MAX: i64> ToSchema for NumberIn<MIN, MAX> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_out_of_range_is_reported_with_the_range() {
        type Lease = DurationIn<100, 86_400_000>;
        type Priority = NumberIn<-2_097_152, 2_097_152>;
        for (json, expected) in [("99", "must be 100ms to 1d"), ("\"25h\"", "must be 100ms to 1d"), ("-1", "negative")]
        {
            let error = serde_json::from_str::<Lease>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(*serde_json::from_str::<Lease>("\"2s\"").unwrap(), Millis::from_secs(2));
        for json in
            ["0", "-1", "1001", "18446744073709551615", "99999999999999999999999999", "-99999999999999999999999999"]
        {
            let error = serde_json::from_str::<NumberIn<1, 1_000>>(json).unwrap_err().to_string();
            assert!(error.contains("must be a whole number from 1 to 1000"), "{error}");
        }
        assert_eq!(*serde_json::from_str::<NumberIn<1, 1_000>>("7.0").unwrap(), 7);
        assert_eq!(*serde_json::from_str::<Priority>("-7").unwrap(), -7);
        for json in ["1.5", "2097153", "-2097153"] {
            assert!(serde_json::from_str::<Priority>(json).is_err(), "{json}");
        }
        for text in ["", "x", "+5", "0", "1001"] {
            assert!(text.parse::<NumberIn<1, 1_000>>().unwrap_err().to_string().contains("from 1 to 1000"), "{text}");
        }
        assert_eq!((*Priority::default(), *NumberIn::<1, 1_000>::default()), (0, 1));
    }
}
