//! The outcome of a call that Redis did not answer as asked, before it is explained for a queue.

use deadpool_redis::redis;

use crate::error::Error;

/// Why a call has no answer.
pub(crate) enum CallError {
    /// The queue has another epoch: declare it and repeat. Nothing was done.
    StaleEpoch,
    /// The queue has a newer data layout. Nothing was done.
    OtherLayout(u32),
    /// Anything else.
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

/// The number that an error begins with.
fn leading_number(detail: Option<&str>) -> u32 {
    detail.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// For commands that are about no queue.
impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Failed(error) => error,
            CallError::StaleEpoch => Self::Unexpected("EPOCH".into()),
            CallError::OtherLayout(found) => Self::Unexpected(format!("LAYOUT {found}")),
        }
    }
}
