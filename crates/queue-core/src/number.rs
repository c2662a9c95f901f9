//! Whole numbers in JSON.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A whole number of JSON, where 5.0 is the same number as 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WholeNumber(pub(crate) i64);

/// Converts a float to the whole number that it equals; `None` if it has a fraction or is too large.
pub(crate) fn to_whole(number: f64) -> Option<i64> {
    /// 2^53, the limit up to which a float represents every whole number.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = number.fract() == 0.0 && number.abs() <= MAX_EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "the number is whole and within the limit")]
    is_whole.then_some(number as i64)
}

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeNumberVisitor;
        impl de::Visitor<'_> for WholeNumberVisitor {
            type Value = WholeNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<WholeNumber, E> {
                Ok(WholeNumber(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<WholeNumber, E> {
                // A number that does not fit into an `i64` is outside every range.
                Ok(WholeNumber(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<WholeNumber, E> {
                match to_whole(number) {
                    Some(number) => Ok(WholeNumber(number)),
                    // A number beyond 2^53 is outside every range.
                    None if number.fract() == 0.0 => Ok(WholeNumber(if number > 0.0 { i64::MAX } else { i64::MIN })),
                    None => Err(E::invalid_type(de::Unexpected::Float(number), &self)),
                }
            }
        }
        deserializer.deserialize_any(WholeNumberVisitor)
    }
}
