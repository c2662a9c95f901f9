//! Why a server did not serve a call: whether the call provably did not start, so that it may be sent again.

use deadpool_redis::redis::RedisError;

use crate::{
    error::Error,
    redis::{call_error::CallError, shared_connection::QueryError},
};

/// Why a server did not serve a call.
pub(crate) enum SendError {
    /// The call did not start, so the call may be sent again, to the same server or to another server.
    NotStarted(NotStartedReason, CallError),
    /// The call failed, or it is unknown whether the server did the call, so the call must not be sent again.
    Failed(CallError),
}

/// Why a call did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotStartedReason {
    /// The slot belongs to another server.
    Moved(Redirect),
    /// The slot moves to another server, which already has the keys of the call.
    Ask(Redirect),
    /// The server can't serve the call now: the server loads its data or is a replica, or its cluster or the slot is not complete.
    NotNow,
    /// No byte of the call was written, because there is no connection.
    Unreachable,
}

/// The address to which a server redirects a call, `host:port`. The host is empty for the host of the redirecting server, and `?` for
/// an unknown host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect(pub(crate) String);

/// The error codes with which a server refuses a call before it starts.
const CODES_OF_REFUSED_CALLS: [&str; 6] =
    ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "NOREPLICAS"];

impl SendError {
    /// Returns the error of a call for which there is no connection.
    pub(crate) fn unreachable(error: Error) -> Self {
        Self::NotStarted(NotStartedReason::Unreachable, CallError::Failed(error))
    }

    /// Whether the next call needs a new connection. The connection of a failed call may be broken, or its address may lead to
    /// another server now.
    pub(crate) fn breaks_connection(&self) -> bool {
        match self {
            Self::NotStarted(NotStartedReason::Moved(_) | NotStartedReason::Ask(_), _) => false,
            Self::NotStarted(..) => true,
            Self::Failed(error) => matches!(error, CallError::Failed(Error::Unavailable(_))),
        }
    }

    /// Whether another server may serve the slot now. After an answer such as that a queue is full, the same server still serves the
    /// slot.
    pub(crate) fn may_mean_topology_change(&self) -> bool {
        match self {
            Self::NotStarted(..) => true,
            Self::Failed(error) => matches!(error, CallError::Failed(Error::Unavailable(_))),
        }
    }

    /// Whether the error is an answer of the server.
    pub(crate) fn is_answer(&self) -> bool {
        match self {
            Self::NotStarted(reason, _) => *reason != NotStartedReason::Unreachable,
            Self::Failed(error) => !matches!(error, CallError::Failed(Error::Unavailable(_))),
        }
    }

    pub(crate) fn into_call_error(self) -> CallError {
        match self {
            Self::NotStarted(_, error) | Self::Failed(error) => error,
        }
    }
}

impl From<QueryError> for SendError {
    fn from(unanswered: QueryError) -> Self {
        match unanswered {
            QueryError::NeverWritten(error) => Self::NotStarted(NotStartedReason::Unreachable, error.into()),
            QueryError::Failed(error) => match not_started_reason(&error) {
                Some(reason) => Self::NotStarted(reason, error.into()),
                None => Self::Failed(error.into()),
            },
            QueryError::Done(error) => Self::Failed(CallError::Failed(match Error::from(error) {
                // The replicas have not confirmed, because the primary has become a replica.
                Error::Unexpected(text) => Error::Unavailable(text),
                other => other,
            })),
        }
    }
}

fn not_started_reason(error: &RedisError) -> Option<NotStartedReason> {
    // The detail of a redirection is the slot and the address.
    let redirect = || Some(Redirect(error.detail()?.split_whitespace().nth(1)?.to_owned()));
    match error.code()? {
        "MOVED" => redirect().map(NotStartedReason::Moved),
        "ASK" => redirect().map(NotStartedReason::Ask),
        code if CODES_OF_REFUSED_CALLS.contains(&code) => Some(NotStartedReason::NotNow),
        _ => None,
    }
}
