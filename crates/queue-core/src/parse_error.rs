//! The error of a text or a number that can't be parsed.

use std::borrow::Cow;

/// A text or a number is invalid for its type. The error text says which values are valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) Cow<'static, str>);

impl From<&'static str> for ParseError {
    fn from(expected: &'static str) -> Self {
        Self(expected.into())
    }
}
