use super::{Call, Queue};
use crate::{
    Error, MAX_BYTES_PER_CALL, MAX_MESSAGES_PER_CALL, MaxAttempts, Message, MessageId, MessageRef, NewMessage, Result,
    Settings, Timestamp, TooMuch, record::Record, reply, scripts::ENQUEUE,
};

/// What came of enqueueing one message.
#[derive(Debug, Clone)]
pub enum Enqueued {
    /// It was stored.
    Created(Message),
    /// A message with the same id of the producer's stood already. This is that one; nothing was changed.
    Duplicate(Message),
}

impl Enqueued {
    /// The message that stands in the queue now.
    pub fn message(&self) -> &Message {
        match self {
            Self::Created(message) | Self::Duplicate(message) => message,
        }
    }
}

impl Queue {
    /// Stores messages, all or none, in the order given.
    ///
    /// It is not sent again when Redis did not answer: then it may have been stored or not.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::TooMuch`] for more than one call may carry,
    /// [`Error::NewerLayout`].
    pub async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        if messages.len() > MAX_MESSAGES_PER_CALL {
            return Err(Error::TooMuch(TooMuch::Messages(messages.len())));
        }
        let records: Vec<String> = messages.iter().map(Record::encode).collect();
        let bytes = records.iter().map(String::len).sum();
        if bytes > MAX_BYTES_PER_CALL {
            return Err(Error::TooMuch(TooMuch::Bytes(bytes)));
        }
        let answer = self
            .call_declared(&ENQUEUE, |epoch| {
                let mut call = Call::new(&ENQUEUE, &self.keys).arg(epoch).arg(Settings::default().max_attempts.get());
                for (message, record) in messages.iter().zip(&records) {
                    call.push(message.due.encode());
                    call.push(message.options().encode());
                    call.push(record.as_str());
                }
                call
            })
            .await?;

        let mut answer = reply::array(Some(answer))?.into_iter();
        let created_at = Timestamp::from_millis(reply::unsigned(answer.next())?);
        let max_attempts = reply::text(answer.next())?.parse::<MaxAttempts>().map_err(Error::unexpected)?;
        let mut places = Vec::with_capacity(messages.len());
        let mut duplicates = Vec::new();
        for message in messages {
            let id = reply::text(answer.next())?;
            if let Some(standing) = id.strip_prefix('=') {
                duplicates.push(MessageRef::Id(parse_id(standing)?));
                places.push(None);
            } else {
                let id = MessageRef::Id(parse_id(&id)?);
                let message = Message::enqueued(self.name.clone(), id, message, created_at, max_attempts);
                places.push(Some(Enqueued::Created(message)));
            }
        }
        let mut standing = self.read(&duplicates).await?.into_iter();
        places
            .into_iter()
            .map(|place| match place {
                Some(created) => Ok(created),
                None => standing.next().flatten().map(Enqueued::Duplicate).ok_or_else(|| {
                    Error::Unavailable("the message with that id was forgotten a moment ago, send it again".into())
                }),
            })
            .collect()
    }
}

fn parse_id(text: &str) -> Result<MessageId> {
    text.parse().map_err(|_| Error::unexpected(text))
}
