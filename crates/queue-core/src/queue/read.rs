//! Reads messages by their ids, and waits until one message has finished.

use std::{pin::pin, time::Duration};

use deadpool_redis::redis::Value;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::{
    error::{Error, Result},
    limits,
    message::{
        MaxAttempts, Message, MessageId, MessageRef, StoredMessage, StoredState,
        record::{Outcome, PostedRecord, Run},
    },
    queue::{Call, Queue},
    redis::{reply, scripts},
    time::{Millis, Timestamp},
    wakeup::Subscriber,
};

/// The interval at which a wait reads the message again, so that a lost notification only delays the answer.
const READ_INTERVAL: Duration = Duration::from_secs(60);

impl Queue {
    /// Reads messages, in order; `None` for a message that is unknown or no longer kept.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn read(&self, ids: &[MessageRef]) -> Result<Vec<Option<Message>>> {
        let mut messages = Vec::with_capacity(ids.len());
        while messages.len() < ids.len() {
            let remaining_ids = &ids[messages.len()..];
            // One call returns as many messages as fit into its reply.
            let values = self.read_stored(&remaining_ids[..remaining_ids.len().min(limits::MAX_MESSAGES)]).await?;
            if values.is_empty() {
                return Err(Error::unexpected("no answer for the first message"));
            }
            for stored_value in values {
                messages.push(
                    self.decode_stored(stored_value)?
                        .map(|(_, stored)| Message::from_stored(self.name.clone(), stored)),
                );
            }
        }
        Ok(messages)
    }

    /// Waits until a message has finished, or until `wait` is over, and reads the message; `None` if it is unknown or no longer kept. A
    /// notification ends the wait; in addition, the message is read every 60 s, because a notification may be lost.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn read_when_finished(
        &self,
        id: &MessageRef,
        wait: Millis,
        subscriber: &Subscriber,
    ) -> Result<Option<Message>> {
        let wait_end = Instant::now() + wait.to_std();
        loop {
            let stored_value =
                self.read_stored(std::slice::from_ref(id)).await?.into_iter().next().unwrap_or(Value::Nil);
            let Some((drovers_id, stored)) = self.decode_stored(stored_value)? else { return Ok(None) };
            let message = Message::from_stored(self.name.clone(), stored);
            if message.state.is_final() || Instant::now() >= wait_end {
                return Ok(Some(message));
            }
            // The wait for the end of the message is registered before Redis is asked to send a notification, so that no notification
            // is missed.
            let finish_wait = subscriber.register_wait(&self.name, &drovers_id);
            let mut finished = pin!(finish_wait.finished.notified());
            finished.as_mut().enable();
            let pause = wait_end.min(Instant::now() + READ_INTERVAL);
            if self.record_wait(&drovers_id, wait).await? {
                // After a notification or the pause, the message is read again, which shows whether the message has finished.
                let _ = timeout_at(pause, finished).await;
            }
        }
    }

    async fn record_wait(&self, id: &MessageId, wait: Millis) -> Result<bool> {
        let call = Call::new(&scripts::AWAIT, &self.keys).arg(id.as_str()).arg(wait.get());
        self.call(&scripts::AWAIT, call).await
    }

    async fn read_stored(&self, ids: &[MessageRef]) -> Result<Vec<Value>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = Call::new(&scripts::READ, &self.keys);
        for id in ids {
            call.push(id.as_str());
        }
        self.call(&scripts::READ, call).await
    }

    pub(super) fn decode_stored(&self, stored_value: Value) -> Result<Option<(MessageId, StoredMessage)>> {
        type OptionalText = Option<String>;
        type StoredTexts =
            (OptionalText, OptionalText, OptionalText, OptionalText, Option<u8>, OptionalText, OptionalText, String);
        let Value::Array(mut parts) = stored_value else { return Ok(None) };
        let texts = parts.split_off(parts.len().min(3));
        let (id, record, options): (String, Vec<u8>, OptionalText) = reply::decode(Value::Array(parts))?;
        let (run, outcome, due, deadline, held, progress, signal, max_attempts): StoredTexts =
            reply::decode(Value::Array(texts))?;
        let id: MessageId = id.parse().map_err(Error::unexpected)?;
        let max_attempts: MaxAttempts = max_attempts.parse().map_err(Error::unexpected)?;
        let state = match (outcome, deadline, due) {
            (Some(outcome), ..) => {
                let outcome = Outcome::decode(&outcome)
                    .map_err(|malformed| Error::unexpected(format!("{malformed} of {id} in {}", self.name)))?;
                StoredState::Finished(Box::new(outcome))
            }
            (None, Some(_), _) => StoredState::Active,
            (None, None, Some(due)) => {
                StoredState::Delayed(Timestamp::from_millis(due.parse().map_err(Error::unexpected)?))
            }
            (None, None, None) if held.is_some() => StoredState::Held,
            (None, None, None) => StoredState::Waiting,
        };
        // The parts of a message that can't be read are omitted: the message has failed, or will fail, with the reason.
        let mut posted_record = PostedRecord::decode(&record).unwrap_or_else(|_| PostedRecord::unreadable(&id));
        let _ = posted_record.decode_options(&options.unwrap_or_default());
        let stored_message = StoredMessage {
            posted: posted_record,
            run: run.and_then(|text| Run::decode(&text).ok()).unwrap_or_default(),
            state,
            max_attempts,
            progress: progress.and_then(parse_json),
            signal: signal.and_then(parse_json),
            id: MessageRef::Id(id.clone()),
        };
        Ok(Some((id, stored_message)))
    }
}

/// The JSON of a text; `None` for a text that is not JSON.
pub(super) fn parse_json(text: String) -> Option<Box<RawValue>> {
    RawValue::from_string(text).ok()
}
