//! Numbers and durations with a range: each refuses values outside it, names the range in its errors and shows it in its
//! schema. So the type of a setting describes its values completely.

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
pub struct Span<const MIN: u64, const MAX: u64>(Millis);

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Count<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    /// The minimum duration.
    pub const MIN: Millis = Millis::new(MIN);
    /// The maximum duration.
    pub const MAX: Millis = Millis::new(MAX);

    /// A default: one that is out of range does not compile where it is a constant.
    pub(crate) const fn of(duration: Millis) -> Self {
        assert!(MIN <= duration.get() && duration.get() <= MAX, "a default is in its range");
        Self(duration)
    }
}

impl<const MIN: u64, const MAX: u64> Count<MIN, MAX> {
    /// A default: one that is out of range does not compile where it is a constant.
    pub(crate) const fn of(number: u64) -> Self {
        assert!(MIN <= number && number <= MAX, "a default is in its range");
        Self(number)
    }
}

impl<const MIN: u64, const MAX: u64> TryFrom<Millis> for Span<MIN, MAX> {
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

impl<const MIN: u64, const MAX: u64> TryFrom<u64> for Count<MIN, MAX> {
    type Error = ParseError;

    fn try_from(number: u64) -> Result<Self, ParseError> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(ParseError(format!("must be {MIN} to {MAX}").into()))
        }
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Count<MIN, MAX> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let number: u64 =
            text.parse().map_err(|_| ParseError(format!("must be a whole number, {MIN} to {MAX}").into()))?;
        number.try_into()
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Span<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Millis::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Count<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WholeNumber(number) = WholeNumber::deserialize(deserializer)?;
        // A negative number is outside every range.
        u64::try_from(number).unwrap_or(u64::MAX).try_into().map_err(de::Error::custom)
    }
}

impl<const MIN: u64, const MAX: u64> Deref for Span<MIN, MAX> {
    type Target = Millis;

    fn deref(&self) -> &Millis {
        &self.0
    }
}

impl<const MIN: u64, const MAX: u64> Deref for Count<MIN, MAX> {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.0
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Span<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: u64, const MAX: u64> fmt::Display for Count<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: u64, const MAX: u64> PartialSchema for Span<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        Millis::schema_within(Self::MIN, Self::MAX).into()
    }
}

impl<const MIN: u64, const MAX: u64> ToSchema for Span<MIN, MAX> {}

impl<const MIN: u64, const MAX: u64> PartialSchema for Count<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        let bound = |number: u64| usize::try_from(number).ok();
        ObjectBuilder::new().schema_type(Type::Integer).minimum(bound(MIN)).maximum(bound(MAX)).into()
    }
}

impl<const MIN: u64, const MAX: u64> ToSchema for Count<MIN, MAX> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_out_of_range_is_reported_with_the_range() {
        type Lease = Span<100, 86_400_000>;
        for (json, expected) in [("99", "must be 100ms to 1d"), ("\"25h\"", "must be 100ms to 1d"), ("-1", "negative")]
        {
            let error = serde_json::from_str::<Lease>(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(*serde_json::from_str::<Lease>("\"2s\"").unwrap(), Millis::from_secs(2));
        for json in ["0", "-1", "1001", "18446744073709551615"] {
            let error = serde_json::from_str::<Count<1, 1_000>>(json).unwrap_err().to_string();
            assert!(error.contains("must be 1 to 1000"), "{error}");
        }
        assert_eq!(*serde_json::from_str::<Count<1, 1_000>>("7.0").unwrap(), 7);
        assert!("x".parse::<Count<1, 1_000>>().unwrap_err().to_string().contains("a whole number, 1 to 1000"));
    }
}
