use serde_json::value::RawValue;

use super::{Call, Durability, Queue};
use crate::{
    Error, IdempotencyKey, MAX_BYTES_PER_CALL, MAX_MESSAGES_PER_CALL, MaxAttempts, Message, MessageId, MessageRef,
    NewMessage, Result, State, Timestamp, TooMuch, message::Gate, record::Record, reply, scripts::ENQUEUE,
};

/// What came of enqueueing one message.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly all are created")]
pub enum Enqueued {
    /// It was stored.
    Created(Message),
    /// It stood already, by the producer's own id or by an idempotency key; in this state. Nothing was changed.
    Duplicate(MessageRef, State),
    /// The same request was made before, but what it stored has finished since and is no longer kept. Nothing was
    /// changed.
    Forgotten(MessageRef),
}

impl Enqueued {
    /// The id under which it can be asked for.
    pub fn id(&self) -> &MessageRef {
        match self {
            Self::Created(message) => &message.id,
            Self::Duplicate(id, _) | Self::Forgotten(id) => id,
        }
    }

    /// Where it stands; `None` if it is no longer kept.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Created(message) => Some(message.state),
            Self::Duplicate(_, state) => Some(*state),
            Self::Forgotten(_) => None,
        }
    }
}

/// Makes a request safe to repeat: the same key with the same fingerprint stores nothing more, for as long as the
/// queue's [`idempotency_window`](crate::Settings::idempotency_window).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Drawn by the producer, for each request anew.
    pub key: IdempotencyKey,
    /// What tells one request from another: a hash of all that it asks for, without tabs.
    pub fingerprint: String,
}

impl Queue {
    /// Stores messages, all or none, in the order given.
    ///
    /// It is not sent again when Redis did not answer: then it may have been stored or not.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::TooMuch`] for more than one call may carry,
    /// [`Error::QueueFull`], [`Error::NewerLayout`].
    pub async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>> {
        self.store(messages, None).await
    }

    /// As [`enqueue`](Self::enqueue), but safe to repeat.
    ///
    /// # Errors
    ///
    /// Those of `enqueue`, and [`Error::KeyReused`].
    pub async fn enqueue_once(&self, messages: Vec<NewMessage>, idempotency: &Idempotency) -> Result<Vec<Enqueued>> {
        self.store(messages, Some(idempotency)).await
    }

    async fn store(&self, messages: Vec<NewMessage>, idempotency: Option<&Idempotency>) -> Result<Vec<Enqueued>> {
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
        let (key, fingerprint) = idempotency.map_or(("", ""), |once| (once.key.as_str(), &once.fingerprint));
        let answer = self
            .call_declared_with(Durability::Replicas, &ENQUEUE, |epoch| {
                let mut call = Call::new(&ENQUEUE, &self.keys).arg(epoch).arg(key).arg(fingerprint);
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
        messages
            .into_iter()
            .map(|message| {
                let text = reply::text(answer.next())?;
                let (mark, id) = text.split_at(usize::from(text.starts_with(['=', '*'])));
                let (id, rest) = id.split_once('\t').unwrap_or((id, ""));
                let id = MessageRef::Id(parse_id(id)?);
                if mark == "=" {
                    let id = message.id.map_or(id, MessageRef::Own);
                    return match rest {
                        "" => Ok(Enqueued::Forgotten(id)),
                        state => Ok(Enqueued::Duplicate(id, state.parse().map_err(Error::unexpected)?)),
                    };
                }
                let gate = match mark {
                    "*" => Gate::PassedBy(RawValue::from_string(rest.to_owned()).ok()),
                    _ => Gate::Closed,
                };
                let message = Message::enqueued(self.name.clone(), id, message, created_at, max_attempts, gate);
                Ok(Enqueued::Created(message))
            })
            .collect()
    }
}

fn parse_id(text: &str) -> Result<MessageId> {
    text.parse().map_err(|_| Error::unexpected(text))
}
