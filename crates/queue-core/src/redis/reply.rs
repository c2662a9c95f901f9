//! Reads the answers of Redis as types, by the conversions of its client.

use deadpool_redis::redis::{FromRedisValue, Value, from_redis_value};

use crate::error::{Error, Result};

/// An answer that is no `T` is [`Error::Unexpected`].
pub(crate) fn read<T: FromRedisValue>(answer: Value) -> Result<T> {
    from_redis_value(answer).map_err(|error| Error::Unexpected(error.to_string().chars().take(200).collect()))
}
