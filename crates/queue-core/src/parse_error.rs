//! The error of everything that is read from a text or a number.

use std::borrow::Cow;

/// A text or a number is not what its type takes. The text says what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(pub(crate) Cow<'static, str>);

impl From<&'static str> for ParseError {
    fn from(expected: &'static str) -> Self {
        Self(expected.into())
    }
}
