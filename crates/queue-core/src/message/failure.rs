//! The errors of attempts: the form in which consumers report an error, and the form in which clients read it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// The error of the last attempt that failed, or of a message that failed without an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MessageError {
    /// The code of the error, a word that a program can match.
    pub code: String,
    /// The text of the error, a sentence for people.
    pub message: String,
    /// The number of the failed attempt, from 1. If the message failed without an attempt, the number of its earlier attempts.
    pub attempt: u32,
    /// The instant at which the error happened.
    pub at: Timestamp,
}

impl MessageError {
    pub(crate) fn decode(json: &str, attempt: u32, at: Timestamp) -> Option<Self> {
        let Failure { code, message } = serde_json::from_str(json).ok()?;
        Some(Self { code, message, attempt, at })
    }
}

/// The error that a consumer reports for a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The code of the error, a word that a program can match.
    pub code: String,
    /// The text of the error, a sentence for people.
    pub message: String,
}

impl Failure {
    /// Makes an error from its code and its text.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}
