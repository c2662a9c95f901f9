//! Leases messages.

use std::time::Duration;

use deadpool_redis::redis::Value;
use tracing::warn;

use crate::{
    error::{Error, Result},
    limits,
    message::{
        Failure, LeaseToken, MaxAttempts, Message, MessageId, MessageRef, StoredMessage, StoredState,
        record::{MalformedPart, PostedRecord, Run},
        token::Secret,
    },
    names::ConsumerId,
    queue::{
        Call, Queue,
        declare::IfAbsent,
        random_fraction,
        read::parse_json,
        settle::{Action, Settlement},
    },
    redis::{reply, scripts},
    time::{Millis, Timestamp},
};

/// A request of a consumer for messages.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The consumer that leases messages.
    pub consumer: ConsumerId,
    /// The maximum number of messages, up to [`Queue::MAX_MESSAGES`].
    pub max: usize,
    /// How long the leases last unless they are extended; defaults to the queue's setting.
    pub visibility_timeout: Option<Millis>,
    /// How long the consumer owns an exclusive queue beyond its leases.
    pub owner_timeout: OwnerTimeout,
}

/// How long a consumer owns an exclusive queue beyond its leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerTimeout {
    /// The consumer owns the queue for the visibility timeout after each lease call, because the consumer will call again.
    #[default]
    VisibilityTimeout,
    /// The consumer owns the queue only while it has leases.
    None,
}

impl LeaseRequest {
    /// A request of a consumer for at most this many messages, with defaults for all other fields.
    pub fn new(consumer: ConsumerId, max: usize) -> Self {
        Self { consumer, max, visibility_timeout: None, owner_timeout: OwnerTimeout::default() }
    }

    /// Changes the request so that its consumer owns an exclusive queue only while it has leases.
    #[must_use]
    pub fn without_owner_timeout(self) -> Self {
        Self { owner_timeout: OwnerTimeout::None, ..self }
    }
}

/// The result of a lease call: the messages, and when the consumer should call again.
#[derive(Debug)]
pub struct Leased {
    /// The messages that were leased, in the order of the waiting list.
    pub deliveries: Vec<Delivery>,
    /// How long the leases last unless they are extended.
    pub visibility_timeout: Millis,
    /// Whether more messages are ready that the consumer may lease at once.
    pub more_is_ready: bool,
    /// Whether one message was leased alone, because its next lapse makes it fail. If the message kills the consumer, no
    /// other lease lapses with it, as long as the consumer leases nothing more until it has settled this message.
    pub goes_alone: bool,
    /// Whether a consumer may lease messages some milliseconds before it starts their handlers: no setting of the queue depends
    /// on when the handlers start.
    pub permits_ahead: bool,
    /// The time until the next known reason to lease again, for example that a message is due or a lease of any consumer lapses. `None`
    /// if no reason to lease again is known.
    pub call_again_in: Option<Duration>,
    /// The consumers that have access to the queue.
    pub(crate) access: Access,
}

/// The consumers that have access to a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// All consumers may lease messages from the queue.
    All,
    /// The queue is exclusive: only this consumer has access, until it ends its ownership or its owner timeout ends.
    /// `OneConsumer(None)`: no consumer has access to the exclusive queue yet, because consumers still have leases that the queue
    /// granted before it became exclusive.
    OneConsumer(Option<ConsumerId>),
}

/// A message that was leased.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message that was leased.
    pub message: Message,
    /// The token of the lease, which proves the right to work on the message.
    pub lease: LeaseToken,
    /// The deadline of the lease, unless it is extended.
    pub lease_expires_at: Timestamp,
    /// How long this run may take before it counts as a failed attempt.
    pub timeout: Option<Millis>,
    /// The instant since which the message has been ready: that of the last signal, promotion, retry or requeue (with a pause, its
    /// end); if there was none, its due time.
    pub ready_at: Timestamp,
}

impl Queue {
    /// Recovers lapsed leases, promotes due messages, and leases ready messages.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: the next call of `lease` on this [`Queue`] undoes the leases that the failed call may have made, without
    /// spending an attempt. The next call of `lease` on this [`Queue`] also undoes the leases of an earlier `lease` call whose future
    /// was dropped. [`Error::NoSuchQueue`], [`Error::OtherLayout`].
    pub async fn lease(&self, request: &LeaseRequest) -> Result<Leased> {
        self.lease_with_max_bytes(request, limits::MAX_BYTES).await
    }

    /// Like [`lease`](Self::lease), but with at most `max_bytes` of messages; a single larger message is leased too.
    pub(crate) async fn lease_with_max_bytes(&self, request: &LeaseRequest, max_bytes: usize) -> Result<Leased> {
        self.return_lost_leases().await?;
        let max = request.max.clamp(1, limits::MAX_MESSAGES);
        let lease_call = self.lost_calls.begin_call();
        let secret = lease_call.secret().clone();
        let owner_timeout = match request.owner_timeout {
            OwnerTimeout::VisibilityTimeout => "",
            OwnerTimeout::None => "0",
        };
        let visibility_timeout = request.visibility_timeout.map(|timeout| timeout.get().to_string());
        let answer: Result<Vec<Value>> = self
            .call_declared(IfAbsent::Refuse, &scripts::LEASE, |epoch| {
                Call::new(&scripts::LEASE, &self.keys)
                    .arg(epoch)
                    .arg(max)
                    .arg(max_bytes.min(limits::MAX_BYTES))
                    .arg(secret.as_str())
                    .arg(request.consumer.as_str())
                    .arg(owner_timeout)
                    .arg(visibility_timeout.as_deref().unwrap_or(""))
                    .arg(random_fraction())
            })
            .await;
        let answer = match answer {
            // A lease call with the error `NoSuchQueue` or `OtherLayout` has leased no message, so there are no leases to undo.
            Err(error @ (Error::NoSuchQueue | Error::OtherLayout { .. })) => {
                lease_call.mark_answered();
                return Err(error);
            }
            answer => answer?,
        };
        let (mut leased, unreadable) = self.decode_lease(answer, request, &secret)?;
        // If this future is dropped before `mark_answered` is called, the lease call counts as lost, because no consumer has
        // received the deliveries.
        self.fail_unreadable(unreadable).await;
        lease_call.mark_answered();
        // An idle consumer must call `lease` again when this process next searches for the leases of calls whose replies were lost.
        let next_search = self.lost_calls.pause_until_lease_search();
        leased.call_again_in = leased.call_again_in.into_iter().chain(next_search).min();
        Ok(leased)
    }

    /// Decodes the reply of `lease.lua`: the deliveries, and the leases of messages that can't be read.
    fn decode_lease(
        &self,
        mut answer: Vec<Value>,
        request: &LeaseRequest,
        secret: &Secret,
    ) -> Result<(Leased, Vec<(LeaseToken, MalformedPart)>)> {
        let messages: Vec<(String, Vec<u8>)> = reply::decode(Value::Array(answer.split_off(answer.len().min(14))))?;
        let mut optional_values = answer.split_off(answer.len().min(9));
        let (
            now,
            deadline,
            visibility_timeout,
            call_again_in,
            more_is_ready,
            goes_alone,
            permits_ahead,
            max_attempts,
            queue_timeout,
        ) = reply::decode::<ValuesForAllLeases>(Value::Array(answer))?;
        let options_and_runs = optional_values.split_off(optional_values.len().min(3));
        let (own_deadlines, signals, owner): (ValuePerMessage<u64>, ValuePerMessage<Option<String>>, Option<String>) =
            reply::decode(Value::Array(optional_values))?;
        let [options, runs]: [ValuePerMessage<Option<Vec<u8>>>; 2] = reply::decode(Value::Array(options_and_runs))?;

        let (started_at, lease_expires_at) = (Timestamp::from_millis(now), Timestamp::from_millis(deadline));
        let visibility_timeout = Millis::new(visibility_timeout);
        let call_again_in = u64::try_from(call_again_in).ok().map(Duration::from_micros);
        let max_attempts: MaxAttempts = max_attempts.parse().map_err(Error::unexpected)?;
        let queue_timeout = queue_timeout.and_then(|millis| millis.parse().ok());
        let access = owner.map_or(Access::All, |owner| Access::OneConsumer(owner.parse().ok()));
        let mut own_deadlines = own_deadlines.into_iter().flatten();
        let mut signals = signals.into_iter().flatten();
        let (mut options, mut runs) = (options.into_iter().flatten(), runs.into_iter().flatten());

        let mut deliveries = Vec::with_capacity(messages.len());
        let mut unreadable_leases = Vec::new();
        for (id, record) in messages {
            let (options, run) = (options.next().flatten(), runs.next().flatten());
            let lease_expires_at = own_deadlines.next().map_or(lease_expires_at, Timestamp::from_millis);
            let signal = signals.next().flatten().and_then(parse_json);
            let Ok(id) = id.parse::<MessageId>() else {
                // The lease of an invalid id, which Drover did not write, lapses again and again until its message fails; other
                // messages are not affected.
                warn!(queue = %self.name, id, "the waiting list has an invalid id");
                continue;
            };
            let lease = LeaseToken::new(id.clone(), secret.clone());
            match decode_delivery(&record, options, run) {
                Ok((posted, mut run)) => {
                    let timeout = posted.message.timeout.as_deref().copied().or(queue_timeout);
                    let ready_at = run.ready_at.or(posted.ready_at).unwrap_or(posted.due_at);
                    run.deliveries += 1;
                    run.started_at = Some(started_at);
                    run.consumer = Some(request.consumer.clone());
                    let stored_message = StoredMessage {
                        id: MessageRef::Id(id),
                        posted,
                        run,
                        state: StoredState::Active,
                        max_attempts,
                        progress: None,
                        signal,
                    };
                    let message = Message::from_stored(self.name.clone(), stored_message);
                    deliveries.push(Delivery { message, lease, lease_expires_at, timeout, ready_at });
                }
                Err(malformed) => unreadable_leases.push((lease, malformed)),
            }
        }
        let lease_answer =
            Leased { deliveries, visibility_timeout, more_is_ready, goes_alone, permits_ahead, call_again_in, access };
        Ok((lease_answer, unreadable_leases))
    }

    /// Fails messages whose records are malformed, with the reason, so that malformed messages never stop the queue.
    async fn fail_unreadable(&self, unreadable: Vec<(LeaseToken, MalformedPart)>) {
        if unreadable.is_empty() {
            return;
        }
        let settlements: Vec<Settlement> = unreadable
            .into_iter()
            .map(|(lease, malformed)| {
                warn!(queue = %self.name, id = %lease.id(), reason = %malformed, "a message can't be read, so the message fails");
                Settlement {
                    lease,
                    action: Action::FailForGood(Failure::new("malformed_record", malformed.to_string())),
                }
            })
            .collect();
        if let Err(error) = self.settle(&settlements).await {
            warn!(queue = %self.name, %error, "unreadable messages could not be failed: their leases will lapse");
        }
    }
}

/// The values that the reply of `lease.lua` has once for all leases: the time, the deadline, the visibility timeout, the time until the
/// next call, the fields `more_is_ready`, `goes_alone` and `permits_ahead` of [`Leased`], and the queue's `max_attempts` and timeout.
type ValuesForAllLeases = (u64, u64, u64, i64, bool, bool, bool, String, Option<String>);
/// A part of the reply of `lease.lua` with one value for each leased message; `None` if no message has a value.
type ValuePerMessage<T> = Option<Vec<T>>;

fn decode_delivery(
    record: &[u8],
    options: Option<Vec<u8>>,
    run: Option<Vec<u8>>,
) -> Result<(PostedRecord, Run), MalformedPart> {
    let decode_text = |bytes| String::from_utf8(bytes).map_err(|_| MalformedPart("options or run"));
    let mut posted_record = PostedRecord::decode(record)?;
    options.map(|bytes| posted_record.decode_options(&decode_text(bytes)?)).transpose()?;
    let run = run.map(|bytes| Run::decode(&decode_text(bytes)?)).transpose()?.unwrap_or_default();
    Ok((posted_record, run))
}
