//! The name of an API key.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of an API key: it stands in the key itself, in the log, and beside the key's hash in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

impl KeyId {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let mut bytes = text.bytes();
        let begins_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && text.len() <= 64 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
            return Ok(Self(text));
        }
        Err("a key's id is 1 to 64 characters of A-Z a-z 0-9 _ . - and starts with a letter or digit")
    }
}

impl std::str::FromStr for KeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        text.to_owned().try_into()
    }
}

/// So that a map by ids is searched with a text.
impl std::borrow::Borrow<str> for KeyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_short_word() {
        for id in ["ops", "0", "team-a.mail_2", &"x".repeat(64)] {
            assert_eq!(id.parse::<KeyId>().unwrap().as_str(), id);
        }
        for id in ["", "-ops", "a b", "a:b", "a/b", "ä", &"x".repeat(65)] {
            assert!(id.parse::<KeyId>().is_err(), "{id}");
        }
    }
}
