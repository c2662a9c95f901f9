//! The error of a call to Redis, before this error is converted to the [`Error`] of an operation on a queue.

use deadpool_redis::redis;

use crate::error::Error;

/// Why a call to Redis failed.
pub(crate) enum CallError {
    /// The queue has another `epoch` than the caller expects, because the queue was deleted since, and the script changed nothing.
    /// The caller must declare the queue and repeat the call.
    StaleEpoch,
    /// The queue has another data layout, the one with this number, and the script changed nothing.
    OtherLayout(u32),
    /// Any other error of the call: neither a stale epoch nor another data layout.
    Failed(Error),
}

impl From<redis::RedisError> for CallError {
    fn from(error: redis::RedisError) -> Self {
        match error.code() {
            Some("EPOCH") => Self::StaleEpoch,
            Some("LAYOUT") => Self::OtherLayout(leading_number(error.detail())),
            _ => Self::Failed(error.into()),
        }
    }
}

/// Returns the number at the start of an error's text; 0 if the text does not begin with a number.
fn leading_number(detail: Option<&str>) -> u32 {
    detail.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Converts the error of a command that belongs to no queue.
impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Failed(error) => error,
            CallError::StaleEpoch => Self::Unexpected("EPOCH".into()),
            CallError::OtherLayout(found) => Self::Unexpected(format!("LAYOUT {found}")),
        }
    }
}
