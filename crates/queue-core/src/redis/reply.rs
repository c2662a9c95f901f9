//! Taking apart what scripts answer.

use deadpool_redis::redis::Value;

use crate::error::{Error, Result};

pub(crate) fn bytes(value: Option<Value>) -> Result<Vec<u8>> {
    match value {
        Some(Value::BulkString(bytes)) => Ok(bytes),
        Some(Value::SimpleString(text)) => Ok(text.into_bytes()),
        Some(Value::Okay) => Ok(b"OK".to_vec()),
        other => Err(Error::unexpected(other)),
    }
}

pub(crate) fn text(value: Option<Value>) -> Result<String> {
    String::from_utf8(bytes(value)?).map_err(Error::unexpected)
}

/// `None` for what is not there.
pub(crate) fn optional_bytes(value: Option<Value>) -> Result<Option<Vec<u8>>> {
    match value {
        None | Some(Value::Nil) => Ok(None),
        some => bytes(some).map(Some),
    }
}

/// `None` for what is not there.
pub(crate) fn optional_text(value: Option<Value>) -> Result<Option<String>> {
    optional_bytes(value)?.map(|bytes| String::from_utf8(bytes).map_err(Error::unexpected)).transpose()
}

pub(crate) fn integer(value: Option<Value>) -> Result<i64> {
    match value {
        Some(Value::Int(number)) => Ok(number),
        Some(Value::BulkString(digits)) => std::str::from_utf8(&digits)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::unexpected(digits)),
        other => Err(Error::unexpected(other)),
    }
}

pub(crate) fn unsigned(value: Option<Value>) -> Result<u64> {
    let number = integer(value)?;
    u64::try_from(number).map_err(|_| Error::unexpected(number))
}

pub(crate) fn array(value: Option<Value>) -> Result<Vec<Value>> {
    match value {
        Some(Value::Array(values)) => Ok(values),
        other => Err(Error::unexpected(other)),
    }
}

/// Nothing for what is not there.
pub(crate) fn optional_array(value: Option<Value>) -> Result<std::vec::IntoIter<Value>> {
    match value {
        None | Some(Value::Nil) => Ok(Vec::new().into_iter()),
        some => array(some).map(Vec::into_iter),
    }
}
