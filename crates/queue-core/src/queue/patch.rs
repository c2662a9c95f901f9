//! Patches of one message that was never leased.

use deadpool_redis::redis::Value;

use crate::{
    error::{Error, Result},
    limits,
    message::{MessagePatch, MessageRef, NewMessage, record::EncodedMessage},
    queue::{Call, Queue, change_message::Changed},
    redis::scripts,
};

/// The maximum number of times that a patch reads its message, because other clients may change the message at the same time.
const MAX_READS: usize = 30;

impl Queue {
    /// Changes a message that was never leased. A new delay counts from now, by Redis's clock.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::TooManyBytes`], [`Error::OtherLayout`]. If a field of the patch is
    /// invalid for the message, `patch` returns `Ok(Err((field, reason)))`, and the message is unchanged.
    pub async fn patch(
        &self,
        id: &MessageRef,
        patch: &MessagePatch,
    ) -> Result<Result<Changed, (&'static str, &'static str)>> {
        for _ in 0..MAX_READS {
            let read_values: Vec<Value> =
                self.call(&scripts::READ, Call::new(&scripts::READ, &self.keys).arg(id.as_str())).await?;
            let stored_value = read_values.into_iter().next().unwrap_or(Value::Nil);
            let first_line = first_line_of(&stored_value).to_owned();
            let Some((_, stored)) = self.decode_stored(stored_value)? else { return Ok(Ok(Changed::Unknown)) };
            let mut message = stored.posted.message;
            if let Err(invalid) = patch.apply(&mut message) {
                return Ok(Err(invalid));
            }
            if let Some(changed) = self.write_patch(id, &first_line, patch, &message).await? {
                return Ok(Ok(changed));
            }
        }
        Err(Error::Unavailable("other clients change the message all the time".into()))
    }

    /// Writes the patched message. Returns `None`, and changes nothing, if the first line of the message's record in Redis is no longer
    /// `first_line`.
    async fn write_patch(
        &self,
        id: &MessageRef,
        first_line: &str,
        patch: &MessagePatch,
        patched: &NewMessage,
    ) -> Result<Option<Changed>> {
        let EncodedMessage { mut record, .. } = EncodedMessage::of(patched);
        if record.len() > limits::MAX_BYTES {
            return Err(Error::TooManyBytes(record.len()));
        }
        if patch.data.is_none() {
            record.truncate(record.find('\n').unwrap_or(record.len()));
        }
        let priority = patch.priority.map(|_| patched.priority.to_string()).unwrap_or_default();
        let delay = patch.delay.map(|delay| delay.map_or(0, |delay| delay.get()).to_string()).unwrap_or_default();
        let call = Call::new(&scripts::PATCH, &self.keys)
            .arg(id.as_str())
            .arg(first_line)
            .arg(record)
            .arg(priority)
            .arg(delay);
        let answer: Option<(String, String)> = self.call(&scripts::PATCH, call).await?;
        let Some((state, outcome)) = answer else { return Ok(Some(Changed::Unknown)) };
        match outcome.as_str() {
            "patched" => Ok(Some(Changed::Done)),
            "started" => Ok(Some(Changed::Refused(state.parse().map_err(Error::unexpected)?))),
            _ => Ok(None),
        }
    }
}

/// The first line of the record in a reply of `read.lua`.
fn first_line_of(stored_value: &Value) -> &str {
    let record = match stored_value {
        Value::Array(parts) => parts.get(1),
        _ => None,
    };
    let Some(Value::BulkString(record)) = record else { return "" };
    let first_line = record.split(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(first_line).unwrap_or_default()
}
