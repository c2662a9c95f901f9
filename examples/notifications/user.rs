//! The name of a user.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// The name of a user: 1 to 64 letters, digits and `_.-`, the first a letter or digit. The name of a user is also a valid group, and needs
/// no encoding in a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct User(String);

/// The error for a text that is not a valid name of a user.
#[derive(Debug, thiserror::Error)]
#[error("a user's name has 1 to 64 letters, digits and _.- and begins with a letter or digit: choose another name")]
pub(crate) struct InvalidUser;

impl TryFrom<String> for User {
    type Error = InvalidUser;

    fn try_from(name: String) -> Result<Self, InvalidUser> {
        let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || b"_.-".contains(&letter);
        let begins_well = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if begins_well && name.len() <= 64 && name.bytes().all(is_allowed) { Ok(Self(name)) } else { Err(InvalidUser) }
    }
}

impl FromStr for User {
    type Err = InvalidUser;

    fn from_str(name: &str) -> Result<Self, InvalidUser> {
        name.to_owned().try_into()
    }
}

impl fmt::Display for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
