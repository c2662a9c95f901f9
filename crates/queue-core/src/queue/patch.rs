//! Patches of one message that was never handed out: new data, name, headers, priority or due time.

use deadpool_redis::redis::Value;

use crate::{
    error::{Error, Result},
    limits,
    message::{MessageRef, NewMessage, Stored, new::Due, record::Record},
    queue::{Call, Queue, change_message::Changed},
    redis::scripts,
};

/// The maximum number of times that a patch reads its message, because other clients may change the message at the same time.
const MAX_READS: usize = 30;

impl Queue {
    /// Changes a message that was never handed out. `edit` receives the message in the form of a new post, and changes its
    /// data, name, headers or priority. A delay or an instant that `edit` sets becomes the due time, by Redis's clock. If
    /// another client changes the message at the same time, `edit` is called again.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::TooManyBytes`], [`Error::OtherLayout`]. The inner result has the
    /// error of `edit`: nothing was changed.
    pub async fn patch<E>(
        &self,
        id: &MessageRef,
        edit: impl Fn(&mut NewMessage) -> Result<(), E>,
    ) -> Result<Result<Changed, E>> {
        for _ in 0..MAX_READS {
            let read: Vec<Value> =
                self.call(&scripts::READ, Call::new(&scripts::READ, &self.keys).arg(id.as_str())).await?;
            let value = read.into_iter().next().unwrap_or(Value::Nil);
            let first_line = first_line_of(&value).to_owned();
            let Some((_, stored)) = self.decode_stored(value)? else { return Ok(Ok(Changed::Unknown)) };
            let Stored { record: Record { name, headers, data, .. }, options, .. } = stored;
            let before = NewMessage { name, headers, priority: options.priority, ..NewMessage::new(data) };
            let mut after = before.clone();
            if let Err(refused) = edit(&mut after) {
                return Ok(Err(refused));
            }
            if let Some(changed) = self.write_patch(id, &first_line, &before, &after).await? {
                return Ok(Ok(changed));
            }
        }
        Err(Error::Unavailable("other clients change the message all the time".into()))
    }

    /// Returns `None` if the first line of the record has changed meanwhile.
    async fn write_patch(
        &self,
        id: &MessageRef,
        first_line: &str,
        before: &NewMessage,
        after: &NewMessage,
    ) -> Result<Option<Changed>> {
        let mut record = Record::encode(after);
        if record.len() > limits::MAX_BYTES {
            return Err(Error::TooManyBytes(record.len()));
        }
        if after.data.get() == before.data.get() {
            record.truncate(record.find('\n').unwrap_or(record.len()));
        }
        let priority = if after.priority == before.priority { String::new() } else { after.priority.to_string() };
        let due = match after.due() {
            Due::Now if after.delay.is_none() => String::new(),
            Due::Now => "+0".into(),
            due => due.encode(),
        };
        let call =
            Call::new(&scripts::PATCH, &self.keys).arg(id.as_str()).arg(first_line).arg(record).arg(priority).arg(due);
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
fn first_line_of(value: &Value) -> &str {
    let record = match value {
        Value::Array(parts) => parts.get(1),
        _ => None,
    };
    let Some(Value::BulkString(record)) = record else { return "" };
    let first_line = record.split(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(first_line).unwrap_or_default()
}
