//! The errors of operations on queues, and the conversion of Redis's errors to them.

use std::fmt;

use deadpool_redis::redis::{ErrorKind, RedisError};

use crate::{limits, settings::patch::InvalidSetting};

/// Why an operation on a queue failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Redis can't be reached, did not answer in time, or can't serve the call now (loading, read-only, failing over).
    ///
    /// The caller should try again later. Whether Redis did the operation is unknown.
    #[error("Redis is not available: {0}")]
    Unavailable(String),

    /// Redis refused a command, because its user lacks a right, which an operator must grant. The operation may have been done as a
    /// whole or in part.
    #[error("{0}")]
    NotPermitted(String),

    /// Redis has reached its `maxmemory`: nothing was stored. Messages can be leased and settled although the memory is full.
    #[error("Redis is out of memory: nothing was stored")]
    OutOfMemory,

    /// Too many posts wait to be stored, or there is no [`ResponseMemory`](crate::ResponseMemory) for a response: nothing was done.
    /// The caller should try the operation again later.
    #[error("too many posts are waiting to be stored, or there is no memory for an answer: nothing was done")]
    Overloaded,

    /// The call has more messages than allowed ([`Queue::MAX_MESSAGES`](crate::Queue::MAX_MESSAGES)): nothing was done. Send
    /// fewer messages in one call.
    #[error("{0} messages in one call, at most {max} are allowed", max = limits::MAX_MESSAGES)]
    TooManyMessages(usize),

    /// The call has more bytes of payload than allowed ([`Queue::MAX_BYTES`](crate::Queue::MAX_BYTES)): nothing was done. Send
    /// fewer messages in one call.
    #[error("{0} bytes in one call, at most {max} are allowed", max = limits::MAX_BYTES)]
    TooManyBytes(usize),

    /// The reported progress has more bytes than are kept ([`Queue::MAX_RESULT_BYTES`](crate::Queue::MAX_RESULT_BYTES)): nothing
    /// was done.
    #[error("the progress has {0} bytes, at most {max} are kept", max = limits::MAX_RESULT_BYTES)]
    ProgressTooLarge(usize),

    /// A patch has an invalid setting: nothing was changed.
    #[error(transparent)]
    InvalidSetting(#[from] InvalidSetting),

    /// The queue has reached its maximum number of unfinished messages ([`max_length`](crate::settings::Settings::max_length)): nothing
    /// was stored. Wait until messages have finished, or raise `max_length`.
    #[error("the queue has reached its max_length of {0}: nothing was stored")]
    QueueFull(u64),

    /// A message, or the message of a schedule, has a group, and the queue is exclusive: nothing was stored.
    #[error("the queue is exclusive, so its messages have no group: nothing was changed")]
    ExclusiveQueue,

    /// The queue has its maximum number of schedules: nothing was stored. The caller must delete another schedule first.
    #[error("the queue has {max} schedules, the maximum: nothing was stored", max = limits::MAX_SCHEDULES)]
    TooManySchedules,

    /// A field of a schedule is invalid: nothing was stored.
    #[error("{field}: {problem}")]
    InvalidSchedule {
        /// The name of the invalid field.
        field: &'static str,
        /// The problem with the field.
        problem: &'static str,
    },

    /// An earlier, different request had the same idempotency key: nothing was stored. The caller should use a new random idempotency
    /// key for each request.
    #[error("this idempotency key came with another request before: nothing was stored")]
    KeyReused,

    /// The queue does not exist, and this operation does not create it.
    #[error("there is no such queue")]
    NoSuchQueue,

    /// The cursor of the request does not belong to the list that the request reads.
    #[error("the cursor does not belong to this list")]
    InvalidCursor,

    /// The data has the layout of another version of Drover. To read data of another layout, run the version of Drover that wrote
    /// the data, or use that version to finish the queue's messages and to delete the queue.
    #[error(
        "{what} has data layout {found}; this version of Drover reads layout {known}: run the version that wrote it"
    )]
    OtherLayout {
        /// The queue or key whose data has a layout that this version of Drover does not read.
        what: String,
        /// The number of the data layout that was found in Redis.
        found: u32,
        /// The number of the data layout in Redis that this version of Drover reads and writes.
        known: u32,
    },

    /// Redis gave an unexpected answer: a script and this library disagree, or a key was changed by hand.
    #[error("unexpected answer from Redis: {0}")]
    Unexpected(String),
}

/// Why a Redis in protected mode refuses a connection, and what to do.
pub(crate) const PROTECTED_MODE: &str = "Redis is in protected mode: while it has no password it refuses connections from other machines; set requirepass in \
     Redis and the same text as redis.password, or set protected-mode to no where only trusted machines reach it";

/// The error text that tells an operator how to find the right that Redis's user lacks. `LACKS_A_RIGHT` replaces Redis's own error
/// text, which may contain a key, and which inside a script does not say what was refused.
const LACKS_A_RIGHT: &str = "Redis refused a command, because its user lacks a right: compare ACL GETUSER with the rights in docs/PRODUCTION.md; ACL LOG \
     shows what was refused";

/// The result of an operation on a queue.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether Redis did not serve the call, and may serve it later. Redis may have done the operation or a part of it.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NotPermitted(_))
    }

    pub(crate) fn unexpected(what: impl fmt::Debug) -> Self {
        Self::Unexpected(format!("{what:?}").chars().take(200).collect())
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        // The codes of `UNAVAILABLE_CODES` do not mean that the caller's request was invalid: the error is temporary, or an
        // operator must act. An error without a code means that Redis did not answer.
        const UNAVAILABLE_CODES: &str = "NOSCRIPT LOADING READONLY MASTERDOWN BUSY CLUSTERDOWN TRYAGAIN NOREPLICAS \
                                         MISCONF NOAUTH WRONGPASS MOVED ASK";
        match error.code() {
            _ if lacks_a_right(&error) => Self::NotPermitted(LACKS_A_RIGHT.into()),
            Some("OOM") => Self::OutOfMemory,
            Some("FULL") => Self::QueueFull(error.detail().and_then(|text| text.trim().parse().ok()).unwrap_or(0)),
            Some("EXCLUSIVE") => Self::ExclusiveQueue,
            Some("GROUPED") => Self::InvalidSetting(InvalidSetting::exclusive_conflicts_with_groups(
                error.detail().unwrap_or_default(),
            )),
            Some("REUSED") => Self::KeyReused,
            Some("SCHEDULES") => Self::TooManySchedules,
            Some("DENIED") => Self::Unavailable(PROTECTED_MODE.into()),
            Some(code) if !UNAVAILABLE_CODES.split(' ').any(|unavailable| unavailable == code) => {
                Self::Unexpected(explain_error(&error))
            }
            _ => Self::Unavailable(explain_error(&error)),
        }
    }
}

/// Whether Redis refused a command by its ACL. The error of a command that was refused inside a script has no code `NOPERM`, so
/// `lacks_a_right` compares the text of such an error.
fn lacks_a_right(error: &RedisError) -> bool {
    // If a command inside a script lacks a right, the error of Redis 7.0 begins with `The user executing the script`; the error of
    // later versions begins with `ACL failure in script`.
    const ACL_ERRORS_IN_SCRIPT: [&str; 2] = ["The user executing the script", "ACL failure in script"];
    let detail = error.detail().unwrap_or_default();
    error.code() == Some("NOPERM") || ACL_ERRORS_IN_SCRIPT.iter().any(|words| detail.starts_with(words))
}

/// Explains an error of Redis without terms of the client library, and says what to do.
fn explain_error(error: &RedisError) -> String {
    let explanation = match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            "Redis refused the user or the password: correct redis.username and redis.password, or those in redis.url"
        }
        (_, Some("NOAUTH")) => "Redis wants a password: set redis.password, or write the password into redis.url",
        // Only a client that does not know that its server is part of a cluster gets a redirection as an error.
        (_, Some("MOVED" | "ASK")) => "this Redis is a cluster: write redis+cluster:// in redis.url",
        // If an error has a code other than WRONGPASS, NOAUTH, MOVED and ASK, Redis's own text explains the error.
        (_, Some(code)) => return format!("{code} {}", error.detail().unwrap_or_default()).trim_end().to_owned(),
        (ErrorKind::Parse, _) => {
            "the server at that address is not a Redis: correct the host and the port in redis.url (rediss:// if the port is for TLS)"
        }
        // The text of an I/O error comes from the operating system.
        (ErrorKind::Io, _) => return error.to_string(),
        (kind, _) => return error.to_string().replace(&format!(" - {kind:?}"), ""),
    };
    explanation.to_owned()
}

impl From<deadpool_redis::PoolError> for Error {
    fn from(error: deadpool_redis::PoolError) -> Self {
        match error {
            deadpool_redis::PoolError::Backend(error) => error.into(),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use deadpool_redis::redis::parse_redis_value;

    use super::*;

    fn error_of(line: &[u8]) -> RedisError {
        match parse_redis_value(line).and_then(deadpool_redis::redis::Value::extract_error) {
            Err(error) => error,
            Ok(value) => panic!("{value:?} is no error"),
        }
    }

    #[test]
    fn missing_right_is_reported_with_instructions_in_every_wording_of_redis() {
        for line in [
            "-NOPERM this user has no permissions to access one of the keys used as arguments",
            "-NOPERM User drover has no permissions to run the 'get' command",
            "-ERR The user executing the script can't run this command or subcommand script: 5f, on @user_script:9.",
            "-ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 5f",
            "-ERR The user executing the script can't publish to the channel mentioned in the command script: 5f",
            "-ERR ACL failure in script: User drover has no permissions to run the 'xadd' command script: 5f",
        ] {
            let error = Error::from(error_of(format!("{line}\r\n").as_bytes()));
            assert!(
                matches!(&error, Error::NotPermitted(text) if text.contains("docs/PRODUCTION.md")),
                "{line}: {error:?}"
            );
        }
        assert!(matches!(Error::from(error_of(b"-ERR unknown command\r\n")), Error::Unexpected(_)));
    }

    #[test]
    fn unavailable_redis_is_reported_without_words_of_a_library() {
        let password = RedisError::from((ErrorKind::AuthenticationFailed, "Password authentication failed"));
        let parse = parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
        let refused_error = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        for (error, reason) in [
            (
                password,
                "Redis refused the user or the password: correct redis.username and redis.password, or those in redis.url",
            ),
            (
                error_of(b"-NOAUTH Authentication required.\r\n"),
                "Redis wants a password: set redis.password, or write the password into redis.url",
            ),
            (
                parse,
                "the server at that address is not a Redis: correct the host and the port in redis.url (rediss:// if the port is for TLS)",
            ),
            (error_of(b"-LOADING Redis is loading\r\n"), "LOADING Redis is loading"),
            (error_of(b"-MOVED 1 127.0.0.1:7000\r\n"), "this Redis is a cluster: write redis+cluster:// in redis.url"),
            (refused_error, "connection refused"),
            (RedisError::from((ErrorKind::Client, "Missing auth response")), "Missing auth response"),
        ] {
            assert_eq!(Error::from(error).to_string(), format!("Redis is not available: {reason}"));
        }
        let unexpected_error = Error::from(error_of(b"-ERR DB index is out of range\r\n"));
        assert_eq!(unexpected_error.to_string(), "unexpected answer from Redis: ERR DB index is out of range");
    }
}
