//! The name of a user, and the ids of the user's messages.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// The maximum length of a user's name.
const MAX_NAME: usize = 32;
/// The maximum length of a message's id without the sender's name.
const MAX_ID: usize = 64;

/// The name of a user: 1 to 32 characters of `a-z0-9_-`. The name is part of a queue's name, a group, and URLs without encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct User(String);

/// The error for a text that is not a valid name of a user.
#[derive(Debug, thiserror::Error)]
#[error("a user's name has 1 to {MAX_NAME} characters of a-z, 0-9, _ and -: choose another name")]
pub(crate) struct InvalidName;

impl User {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the user may send a message with this id: the user's name, a dot, and 1 to 64 letters, digits and dashes. No two
    /// users can send the same id, so a user cannot use up the ids of another user.
    pub(crate) fn may_use_id(&self, id: &str) -> bool {
        id.strip_prefix(self.as_str()).and_then(|rest| rest.strip_prefix('.')).is_some_and(|rest| {
            (1..=MAX_ID).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    }
}

impl FromStr for User {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let is_valid = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_allowed);
        if is_valid { Ok(Self(name.to_owned())) } else { Err(InvalidName) }
    }
}

impl TryFrom<String> for User {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        name.parse()
    }
}

impl fmt::Display for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
