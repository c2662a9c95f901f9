//! Converts replies of Redis to Rust types with the conversions of the Redis client.

use deadpool_redis::redis::{FromRedisValue, Value, from_redis_value};

use crate::error::{Error, Result};

/// Converts a reply to a `T`; a reply of another type is [`Error::Unexpected`].
pub(crate) fn decode<T: FromRedisValue>(reply: Value) -> Result<T> {
    from_redis_value(reply).map_err(|error| Error::Unexpected(error.to_string().chars().take(200).collect()))
}
