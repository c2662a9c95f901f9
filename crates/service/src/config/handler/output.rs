use serde::{Deserialize, Serialize};

use crate::nearest::no_such;

/// What becomes of what a URL answers or a program prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum Output {
    /// It is the message's result.
    #[default]
    Result,
    /// Nothing: the result is null.
    Ignore,
}

impl TryFrom<String> for Output {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "result" => Ok(Self::Result),
            "ignore" => Ok(Self::Ignore),
            other => Err(no_such(other, ["result", "ignore"])),
        }
    }
}
