//! The errors of attempts: the form in which consumers report an error, and the form in which clients read it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// The error of a failed attempt, of a lapse, or of a message that failed without an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MessageError {
    /// The code of the error, a word that a program can match.
    pub code: String,
    /// The text of the error, a sentence for people.
    pub message: String,
    /// The number of the failed attempt, from 1. After a lapse, or if the message failed without an attempt, the number of its earlier
    /// attempts.
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

/// The JSON of the error in a run; `lua/lib/errors.lua` describes the JSON.
#[derive(Deserialize)]
struct LastError {
    code: String,
    message: String,
    #[serde(default)]
    earlier: Vec<EarlierError>,
}

/// An error before the last one.
#[derive(Deserialize)]
struct EarlierError {
    code: String,
    message: String,
    attempt: u32,
    at: u64,
}

/// The errors of the failed attempts and lapses of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RunErrors {
    pub(crate) last: Option<MessageError>,
    /// The errors before the last one, the oldest first.
    pub(crate) earlier: Vec<MessageError>,
}

impl RunErrors {
    /// Decodes the errors of a run; the text is empty if there are none.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let mut parts = text.splitn(3, ' ');
        let attempt = parts.next()?.parse().ok()?;
        let at = Timestamp::from_millis(parts.next()?.parse().ok()?);
        let LastError { code, message, earlier } = serde_json::from_str(parts.next()?).ok()?;
        let earlier = earlier.into_iter().map(|EarlierError { code, message, attempt, at }| MessageError {
            code,
            message,
            attempt,
            at: Timestamp::from_millis(at),
        });
        Some(Self { last: Some(MessageError { code, message, attempt, at }), earlier: earlier.collect() })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_run_are_read_with_and_without_earlier_ones() {
        let last_error = RunErrors::decode(r#"2 1795424400001 {"code":"a","message":"b"}"#).unwrap();
        assert_eq!((last_error.last.unwrap().attempt, last_error.earlier.len()), (2, 0));
        let text = r#"2 1795424400001 {"code":"a","message":"b","earlier":[{"code":"c","message":"d","attempt":1,"at":1795424400000}]}"#;
        let errors = RunErrors::decode(text).unwrap();
        let at = Timestamp::from_millis(1_795_424_400_000);
        assert_eq!(errors.earlier, [MessageError { code: "c".into(), message: "d".into(), attempt: 1, at }]);
        // A version of Drover that knows no earlier errors reads the last one.
        let (_, json) = text.split_at("2 1795424400001 ".len());
        assert_eq!(MessageError::decode(json, 2, at).unwrap().code, "a");
        for malformed in ["2", "2 1795424400001", "2 1795424400001 x", r#"2 1795424400001 {"code":"a"}"#] {
            assert_eq!(RunErrors::decode(malformed), None, "{malformed}");
        }
    }
}
