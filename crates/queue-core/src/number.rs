//! Whole numbers in JSON. Number types with a range check the range, name it in their errors, and provide the JSON schema.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::parse_error::ParseError;

/// A whole number of JSON, where 5.0 is the same number as 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeNumber(pub i64);

/// Converts a float to the whole number that it equals; `None` if it has a fraction or is too large.
pub(crate) fn whole(number: f64) -> Option<i64> {
    /// 2^53: above it, a float does not represent every whole number.
    const MOST: f64 = 9_007_199_254_740_992.0;
    let is_whole = number.fract() == 0.0 && number.abs() <= MOST;
    #[expect(clippy::cast_possible_truncation, reason = "it was checked")]
    is_whole.then_some(number as i64)
}

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl de::Visitor<'_> for Number {
            type Value = WholeNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<WholeNumber, E> {
                Ok(WholeNumber(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<WholeNumber, E> {
                // A number that does not fit is out of every range.
                Ok(WholeNumber(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<WholeNumber, E> {
                match whole(number) {
                    Some(number) => Ok(WholeNumber(number)),
                    // A number that does not fit is out of every range.
                    None if number.fract() == 0.0 => Ok(WholeNumber(if number > 0.0 { i64::MAX } else { i64::MIN })),
                    None => Err(E::invalid_type(de::Unexpected::Float(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(Number)
    }
}

/// Parses a whole number. Any other text, also one with a plus sign, becomes a number outside every range.
fn whole_text(text: &str) -> i64 {
    Some(text).filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok()).unwrap_or(i64::MIN)
}

/// A newtype over a whole number with a range.
macro_rules! ranged_number {
    ($(#[$doc:meta])* $name:ident($inner:ty) in $min:literal..=$max:literal, default $default:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "WholeNumber")]
        pub struct $name($inner);

        impl $name {
            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<WholeNumber> for $name {
            type Error = ParseError;

            fn try_from(WholeNumber(number): WholeNumber) -> Result<Self, ParseError> {
                number.try_into()
            }
        }

        impl TryFrom<i64> for $name {
            type Error = ParseError;

            fn try_from(number: i64) -> Result<Self, ParseError> {
                let number = <$inner>::try_from(number).ok().filter(|number| ($min..=$max).contains(number));
                number.map(Self).ok_or(concat!("must be a whole number from ", $min, " to ", $max).into())
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                whole_text(text).try_into()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new().schema_type(Type::Integer).minimum(Some($min)).maximum(Some($max)).into()
            }
        }

        impl ToSchema for $name {}
    };
}

ranged_number! {
    /// Which of the ready messages goes first: the lower number. Negative ones go before all that have none, positive
    /// ones after, as in Bull. Defaults to 0.
    Priority(i32) in -2_097_152..=2_097_152, default 0
}

ranged_number! {
    /// How many attempts a message has. Defaults to 3.
    MaxAttempts(u32) in 1..=1_000, default 3
}

ranged_number! {
    /// The maximum number of messages of a call. Defaults to 1.
    MostMessages(usize) in 1..=1_000, default 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_out_of_range_is_reported_with_its_range() {
        assert_eq!(serde_json::from_str::<Priority>("-7").unwrap().get(), -7);
        let error = serde_json::from_str::<MaxAttempts>("0").unwrap_err().to_string();
        assert!(error.contains("must be a whole number from 1 to 1000"), "{error}");
        assert_eq!(serde_json::from_str::<Priority>("7.0").unwrap().get(), 7);
        assert!(serde_json::from_str::<Priority>("1.5").is_err());
        for large in ["99999999999999999999999999", "-99999999999999999999999999"] {
            let error = serde_json::from_str::<MaxAttempts>(large).unwrap_err().to_string();
            assert!(error.contains("must be a whole number from 1 to 1000"), "{error}");
        }
        assert!(serde_json::from_str::<Priority>("2097153").is_err());
        for bad in ["", "x", "+5", "0", "1001"] {
            assert!(bad.parse::<MaxAttempts>().is_err(), "{bad}");
        }
    }
}
