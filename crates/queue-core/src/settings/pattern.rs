//! Patterns of queues' names: one name, a prefix, or all names.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{names::QueueName, parse_error::ParseError};

/// The queues to which an API key, a route or declared settings apply: one queue by its name, the queues with a prefix
/// (`user-*`), or all queues (`*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct QueuePattern(String);

impl QueuePattern {
    /// The pattern that matches every queue.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// The name of the queue, if the pattern is the name of one queue; `None` for any other pattern.
    pub fn queue(&self) -> Option<QueueName> {
        self.0.parse().ok()
    }

    /// The prefix of the matching names; `None` if the pattern is the name of one queue.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches a queue's name, or all names of another pattern. Only `*` matches an empty text.
    pub fn matches(&self, queue: &str) -> bool {
        self.0.strip_suffix('*').map_or_else(|| self.0 == queue, |prefix| queue.starts_with(prefix))
    }
}

impl TryFrom<String> for QueuePattern {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        let prefix = text.strip_suffix('*').unwrap_or(&text);
        match prefix.parse::<QueueName>() {
            _ if text == "*" => Ok(Self(text)),
            Ok(_) => Ok(Self(text)),
            Err(name) => Err(ParseError(
                format!(
                    "neither the name of a queue, nor the start of one and a * at the end, nor \"*\" for all: {name}"
                )
                .into(),
            )),
        }
    }
}

impl From<QueueName> for QueuePattern {
    fn from(name: QueueName) -> Self {
        Self(name.to_string())
    }
}

impl FromStr for QueuePattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for QueuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_pattern_is_a_name_a_prefix_or_everything() {
        for (pattern, queue, is_match) in [
            ("*", "user-1", true),
            ("*", "", true),
            ("user-*", "user-1", true),
            ("user-*", "user-", true),
            ("user-*", "user", false),
            ("user-*", "an-user-1", false),
            ("user-*", "USER-1", false),
            ("user-1", "user-1", true),
            ("user-1", "user-12", false),
            ("user-1", "", false),
        ] {
            assert_eq!(pattern.parse::<QueuePattern>().unwrap().matches(queue), is_match, "{pattern} {queue}");
        }
        for pattern in ["", "**", "*-user", "a*b", "user-**", "a b", "-*"] {
            assert!(pattern.parse::<QueuePattern>().is_err(), "{pattern}");
        }
    }
}
