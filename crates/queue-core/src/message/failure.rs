//! Errors of attempts: as consumers report them, and as clients read them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// The error of the last attempt that failed, or of a message that failed without an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MessageError {
    /// A word that a program can match.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The number of the failed attempt, from 1. If the message failed without an attempt: how many attempts it had before.
    pub attempt: u32,
    /// When the error happened.
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
    /// A word that a program can match.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl Failure {
    /// An error with this code and message.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}
