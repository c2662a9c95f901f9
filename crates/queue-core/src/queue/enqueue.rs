//! Posts messages. All messages of one `enqueue` are stored, or none; of the messages that `post` collects, each may be refused
//! alone.

use serde_json::value::RawValue;

use crate::{
    error::{Error, Result},
    limits,
    message::{HoldOutcome, MaxAttempts, Message, MessageId, MessageRef, NewMessage, State, record::EncodedMessage},
    names::IdempotencyKey,
    queue::{Call, Queue, declare::IfAbsent, pending_posts::Answer},
    redis::scripts,
    time::Timestamp,
};

/// The outcome of enqueueing one message.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly every value is `Created`")]
pub enum Enqueued {
    /// The message was stored.
    Created(Message),
    /// A message with the same own id, or from a request with the same idempotency key, existed already, and is in this state:
    /// nothing was changed.
    Duplicate(MessageRef, State),
    /// The message was posted before, but is no longer kept: nothing was stored.
    Forgotten(MessageRef),
}

impl Enqueued {
    /// Returns the id under which the message can be read.
    pub fn id(&self) -> &MessageRef {
        match self {
            Self::Created(message) => &message.id,
            Self::Duplicate(id, _) | Self::Forgotten(id) => id,
        }
    }

    /// The state of the message; `None` if it is no longer kept.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Created(message) => Some(message.state),
            Self::Duplicate(_, state) => Some(*state),
            Self::Forgotten(_) => None,
        }
    }
}

impl Queue {
    /// Stores messages, all or none, in the order given.
    ///
    /// If Redis does not answer, the messages may be stored or not, and are not sent to Redis again.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::TooManyMessages`], [`Error::TooManyBytes`],
    /// [`Error::QueueFull`], [`Error::ExclusiveQueue`], [`Error::OtherLayout`].
    pub async fn enqueue(&self, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>> {
        self.store(messages, None).await
    }

    /// Like [`enqueue`](Self::enqueue), but safe to repeat: during the queue's
    /// [`idempotency_window`](crate::settings::Settings::idempotency_window), a call with the same key and fingerprint stores
    /// nothing more. The fingerprint is a hash of the request's content, as a text without tabs.
    ///
    /// # Errors
    ///
    /// The errors of `enqueue`, and [`Error::KeyReused`].
    pub async fn enqueue_once(
        &self,
        messages: Vec<NewMessage>,
        key: &IdempotencyKey,
        fingerprint: &str,
    ) -> Result<Vec<Enqueued>> {
        self.store(messages, Some((key, fingerprint))).await
    }

    async fn store(
        &self,
        messages: Vec<NewMessage>,
        idempotency: Option<(&IdempotencyKey, &str)>,
    ) -> Result<Vec<Enqueued>> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        if messages.len() > limits::MAX_MESSAGES {
            return Err(Error::TooManyMessages(messages.len()));
        }
        let encoded_message: Vec<EncodedMessage> = messages.iter().map(EncodedMessage::of).collect();
        let bytes = encoded_message.iter().map(EncodedMessage::bytes).sum();
        if bytes > limits::MAX_BYTES {
            return Err(Error::TooManyBytes(bytes));
        }
        let answers = self.send(&encoded_message, WhenFull::RefuseAll, idempotency).await?;
        messages.into_iter().zip(answers).map(|(message, answer)| self.decode_outcome(message, &answer)).collect()
    }

    /// Calls `enqueue.lua` for messages that fit into one call, and returns the answer for each message.
    pub(super) async fn send(
        &self,
        messages: &[EncodedMessage],
        when_full: WhenFull,
        idempotency: Option<(&IdempotencyKey, &str)>,
    ) -> Result<Vec<Answer>> {
        let (key, fingerprint) = idempotency.map_or(("", ""), |(key, fingerprint)| (key.as_str(), fingerprint));
        let all_have_terms = messages.iter().all(EncodedMessage::has_terms);
        let mut answer: Vec<String> = self
            .call_declared(IfAbsent::Create, &scripts::ENQUEUE, |epoch| {
                let mut call = Call::new(&scripts::ENQUEUE, &self.keys).arg(epoch).arg(key).arg(fingerprint);
                call.push(format!("{}{}", when_full.as_str(), if all_have_terms { "+" } else { "" }));
                for message in messages {
                    if message.has_terms() {
                        if !all_have_terms {
                            call.push("");
                        }
                        call.push(format!("{}{}", message.due, message.options));
                    }
                    call.push(message.record.as_str());
                }
                call
            })
            .await?;
        let texts = answer.split_off(answer.len().min(2));
        let [created_at, max_attempts] = &answer[..] else { return Err(Error::unexpected(answer)) };
        let created_at = Timestamp::from_millis(created_at.parse().map_err(Error::unexpected)?);
        let max_attempts: MaxAttempts = max_attempts.parse().map_err(Error::unexpected)?;
        let answers: Vec<Answer> = texts.into_iter().map(|text| Answer { created_at, max_attempts, text }).collect();
        if answers.len() != messages.len() {
            return Err(Error::unexpected(format_args!("{} answers to {} messages", answers.len(), messages.len())));
        }
        Ok(answers)
    }

    /// Decodes the outcome for a message from the answer of `enqueue.lua`.
    pub(super) fn decode_outcome(&self, message: NewMessage, answer: &Answer) -> Result<Enqueued> {
        let (mark, id) = answer.text.split_at(usize::from(answer.text.starts_with(['=', '*', '!'])));
        if answer.text == "!" {
            return Err(Error::ExclusiveQueue);
        }
        if mark == "!" {
            return Err(Error::QueueFull(id.parse().map_err(|_| Error::unexpected(id))?));
        }
        let (id, rest) = id.split_once('\t').unwrap_or((id, ""));
        let id = MessageRef::Id(parse_id(id)?);
        if mark == "=" {
            let id = message.id.map_or(id, MessageRef::Own);
            return match rest {
                "" => Ok(Enqueued::Forgotten(id)),
                state => Ok(Enqueued::Duplicate(id, state.parse().map_err(Error::unexpected)?)),
            };
        }
        let hold_outcome = match mark {
            "*" => HoldOutcome::NotHeld(RawValue::from_string(rest.to_owned()).ok()),
            _ => HoldOutcome::Held,
        };
        let Answer { created_at, max_attempts, .. } = *answer;
        Ok(Enqueued::Created(Message::enqueued(self.name.clone(), id, message, created_at, max_attempts, hold_outcome)))
    }
}

/// Which of its messages a call stores if the queue does not have room for all of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum WhenFull {
    /// The call stores no message.
    RefuseAll,
    /// The call stores the first messages, as many as the queue has room for.
    RefuseRest,
}

impl WhenFull {
    fn as_str(self) -> &'static str {
        match self {
            Self::RefuseAll => "all",
            Self::RefuseRest => "rest",
        }
    }
}

fn parse_id(text: &str) -> Result<MessageId> {
    text.parse().map_err(|_| Error::unexpected(text))
}
