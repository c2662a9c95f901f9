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

use crate::{number::Whole, parse_error::ParseError, time::Millis};

/// A duration of `LEAST` to `MOST` milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Span<const LEAST: u64, const MOST: u64>(Millis);

/// A whole number from `LEAST` to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Count<const LEAST: u64, const MOST: u64>(u64);

impl<const LEAST: u64, const MOST: u64> Span<LEAST, MOST> {
    /// The shortest.
    pub const LEAST: Millis = Millis::new(LEAST);
    /// The longest.
    pub const MOST: Millis = Millis::new(MOST);

    /// A default: one that is out of range does not compile where it is a constant.
    pub(crate) const fn of(duration: Millis) -> Self {
        assert!(LEAST <= duration.get() && duration.get() <= MOST, "a default is in its range");
        Self(duration)
    }
}

impl<const LEAST: u64, const MOST: u64> Count<LEAST, MOST> {
    /// A default: one that is out of range does not compile where it is a constant.
    pub(crate) const fn of(number: u64) -> Self {
        assert!(LEAST <= number && number <= MOST, "a default is in its range");
        Self(number)
    }
}

impl<const LEAST: u64, const MOST: u64> TryFrom<Millis> for Span<LEAST, MOST> {
    type Error = ParseError;

    fn try_from(duration: Millis) -> Result<Self, ParseError> {
        let (least, most) = (Self::LEAST, Self::MOST);
        if (least..=most).contains(&duration) {
            Ok(Self(duration))
        } else {
            Err(ParseError(format!("must be {least} to {most}").into()))
        }
    }
}

impl<const LEAST: u64, const MOST: u64> TryFrom<u64> for Count<LEAST, MOST> {
    type Error = ParseError;

    fn try_from(number: u64) -> Result<Self, ParseError> {
        if (LEAST..=MOST).contains(&number) {
            Ok(Self(number))
        } else {
            Err(ParseError(format!("must be {LEAST} to {MOST}").into()))
        }
    }
}

impl<const LEAST: u64, const MOST: u64> FromStr for Count<LEAST, MOST> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let number: u64 =
            text.parse().map_err(|_| ParseError(format!("must be a whole number, {LEAST} to {MOST}").into()))?;
        number.try_into()
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Span<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Millis::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Count<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Whole(number) = Whole::deserialize(deserializer)?;
        // A negative one is out of every range.
        u64::try_from(number).unwrap_or(u64::MAX).try_into().map_err(de::Error::custom)
    }
}

impl<const LEAST: u64, const MOST: u64> Deref for Span<LEAST, MOST> {
    type Target = Millis;

    fn deref(&self) -> &Millis {
        &self.0
    }
}

impl<const LEAST: u64, const MOST: u64> Deref for Count<LEAST, MOST> {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.0
    }
}

impl<const LEAST: u64, const MOST: u64> fmt::Display for Span<LEAST, MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const LEAST: u64, const MOST: u64> fmt::Display for Count<LEAST, MOST> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const LEAST: u64, const MOST: u64> PartialSchema for Span<LEAST, MOST> {
    fn schema() -> RefOr<Schema> {
        Millis::schema_within(Self::LEAST, Self::MOST).into()
    }
}

impl<const LEAST: u64, const MOST: u64> ToSchema for Span<LEAST, MOST> {}

impl<const LEAST: u64, const MOST: u64> PartialSchema for Count<LEAST, MOST> {
    fn schema() -> RefOr<Schema> {
        let bound = |number: u64| usize::try_from(number).ok();
        ObjectBuilder::new().schema_type(Type::Integer).minimum(bound(LEAST)).maximum(bound(MOST)).into()
    }
}

impl<const LEAST: u64, const MOST: u64> ToSchema for Count<LEAST, MOST> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_out_of_range_is_reported_with_the_range() {
        type Lease = Span<100, 86_400_000>;
        for (json, told) in [("99", "must be 100ms to 1d"), ("\"25h\"", "must be 100ms to 1d"), ("-1", "negative")] {
            let error = serde_json::from_str::<Lease>(json).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
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
