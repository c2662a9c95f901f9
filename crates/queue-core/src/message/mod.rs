//! A message as clients read it: its state, its error, and everything that is stored about it.

mod failure;
pub(crate) mod id;
pub(crate) mod new;
mod patch;
pub(crate) mod record;
pub(crate) mod token;

pub use failure::Failure;
use failure::MessageError;
pub(crate) use id::MessageId;
pub use id::MessageRef;
pub(crate) use new::MaxAttempts;
pub use new::NewMessage;
use new::{Headers, Priority};
pub use patch::MessagePatch;
use record::{End, Outcome, PostedRecord, Run};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use strum::{EnumString, IntoStaticStr, VariantArray};
pub use token::LeaseToken;
use utoipa::ToSchema;

use crate::{
    names::{ConsumerId, GroupKey, MessageName, QueueName, ScheduleName, SignalKey},
    parse_error::ParseError,
    range::NumberIn,
    time::{Millis, Timestamp},
};

/// The state of a message.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", parse_err_ty = ParseError, parse_err_fn = Self::unknown_state)]
pub enum State {
    /// The message waits for a signal.
    Held,
    /// The message is not due yet, or is in back-off after a failed attempt.
    Delayed,
    /// The message is ready to be leased.
    Waiting,
    /// The message is leased.
    Active,
    /// The message was completed, with a result.
    Completed,
    /// The message failed for good, with an error: it is a dead letter.
    Failed,
}

impl State {
    /// All states, in the order in which a message passes through them.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name of the state, as in requests and answers.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether a message in this state has finished.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    fn unknown_state(_: &str) -> ParseError {
        "a state is held, delayed, waiting, active, completed or failed".into()
    }
}

/// A message as clients read it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(examples(json!(example())))]
pub struct Message {
    /// The producer's own id; Drover's id if there is none.
    #[schema(inline)]
    pub id: MessageRef,
    /// The message's queue.
    #[schema(inline)]
    pub queue: QueueName,
    /// The name, which states the kind of message, and by which workers choose the handler.
    #[schema(required, inline)]
    pub name: Option<MessageName>,
    /// The key of the message's group.
    #[schema(required, inline)]
    pub group: Option<GroupKey>,
    /// The state of the message.
    pub state: State,
    /// The payload, exactly as the producer sent it.
    #[schema(value_type = Value)]
    pub data: Box<RawValue>,
    /// The priority: a message with a lower number is leased first.
    #[schema(inline)]
    pub priority: Priority,
    /// The time from the creation of the message to its first due time, in milliseconds.
    #[schema(value_type = u64)]
    pub delay: Millis,
    /// The maximum number of attempts.
    #[schema(inline)]
    pub max_attempts: MaxAttempts,
    /// How many attempts have completed or failed.
    pub attempts_made: u32,
    /// The number of times that the message was leased.
    pub deliveries: u32,
    /// How many leases of the message lapsed.
    pub lapses: u32,
    /// Headers that the producer sent beside the data.
    #[schema(inline)]
    pub headers: Headers,
    /// The instant at which Redis stored the message.
    pub created_at: Timestamp,
    /// The time at which the message becomes ready: its due time, or the end of its back-off.
    pub due_at: Timestamp,
    /// The instant at which the message was leased last.
    #[schema(required)]
    pub started_at: Option<Timestamp>,
    /// The instant at which the message was completed or failed for good.
    #[schema(required)]
    pub finished_at: Option<Timestamp>,
    /// The instant at which the message expires unless it has started.
    #[schema(required)]
    pub expires_at: Option<Timestamp>,
    /// The key of the signal that the message waits for.
    #[schema(required, inline)]
    pub hold: Option<SignalKey>,
    /// The data of the signal that released the message; absent if the signal had none.
    #[schema(value_type = Value)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Box<RawValue>>,
    /// The consumer that leases the message, or leased it last.
    #[schema(required, inline)]
    pub consumer: Option<ConsumerId>,
    /// The progress that the handler reported last.
    #[schema(required, value_type = Value)]
    pub progress: Option<Box<RawValue>>,
    /// The result of the handler.
    #[schema(required, value_type = Value)]
    pub result: Option<Box<RawValue>>,
    /// The error of the last failed attempt or lapse; null if the message was completed.
    #[schema(required)]
    pub error: Option<MessageError>,
    /// The errors of failed attempts and lapses before `error`: at most five, the oldest first; absent if there are none. A completed
    /// message has them, too. Codes and texts of older errors are shortened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_errors: Vec<MessageError>,
    /// The schedule that posted the message; absent if a client posted it.
    #[schema(inline, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleName>,
    /// The tick for which the schedule posted the message; absent if a client posted it.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
}

fn example() -> serde_json::Value {
    serde_json::json!({
        "id": "21759559372713", "queue": "my-queue", "name": null, "group": null, "state": "completed",
        "data": {"hello": 1}, "priority": 0, "delay": 1500, "max_attempts": 3, "attempts_made": 1, "deliveries": 1, "lapses": 0, "headers": {},
        "created_at": "2026-11-23T11:13:13.727Z", "due_at": "2026-11-23T11:13:15.227Z",
        "started_at": "2026-11-23T11:13:15.228Z", "finished_at": "2026-11-23T11:13:15.229Z", "expires_at": null,
        "hold": null, "consumer": "c-03e14db4f7f6", "progress": null, "result": "processed ✅", "error": null,
    })
}

/// One message as Redis stores it.
pub(crate) struct StoredMessage {
    pub(crate) id: MessageRef,
    pub(crate) posted: PostedRecord,
    pub(crate) run: Run,
    pub(crate) state: StoredState,
    pub(crate) max_attempts: MaxAttempts,
    pub(crate) progress: Option<Box<RawValue>>,
    pub(crate) signal: Option<Box<RawValue>>,
}

/// Whether an enqueued message with a hold key is held.
pub(crate) enum HoldOutcome {
    /// The message waits for its signal.
    Held,
    /// The message is not held, because its hold key has a sticky signal. The value of `NotHeld` is the data of the sticky signal.
    NotHeld(Option<Box<RawValue>>),
}

/// The state of a stored message, with the data of that state.
pub(crate) enum StoredState {
    Held,
    Delayed(Timestamp),
    Waiting,
    Active,
    Finished(Box<Outcome>),
}

impl Message {
    /// Makes the message that `enqueue.lua` has just stored.
    pub(crate) fn enqueued(
        queue: QueueName,
        id: MessageRef,
        message: NewMessage,
        created_at: Timestamp,
        max_attempts: MaxAttempts,
        hold_outcome: HoldOutcome,
    ) -> Self {
        let posted_record = PostedRecord::new(message, created_at);
        let state = match &posted_record.message.hold {
            Some(_) if matches!(hold_outcome, HoldOutcome::Held) => StoredState::Held,
            _ if posted_record.due_at > created_at => StoredState::Delayed(posted_record.due_at),
            _ => StoredState::Waiting,
        };
        let signal = match hold_outcome {
            HoldOutcome::Held => None,
            HoldOutcome::NotHeld(signal) => signal,
        };
        let run = Run::default();
        let stored_message =
            StoredMessage { id, posted: posted_record, run, state, max_attempts, progress: None, signal };
        Self::from_stored(queue, stored_message)
    }

    /// A message during its first attempt, with defaults for all other fields. Tests of handlers use this function.
    pub fn started(id: MessageRef, queue: QueueName, data: Box<RawValue>, started_at: Timestamp) -> Self {
        let posted_record = PostedRecord::new(NewMessage::new(data), started_at);
        let run =
            Run { started_at: Some(started_at), deliveries: 1, consumer: Some(ConsumerId::issue()), ..Run::default() };
        let max_attempts = const { NumberIn::of(3) };
        let (state, progress, signal) = (StoredState::Active, None, None);
        Self::from_stored(
            queue,
            StoredMessage { id, posted: posted_record, run, state, max_attempts, progress, signal },
        )
    }

    pub(crate) fn from_stored(queue: QueueName, stored: StoredMessage) -> Self {
        let StoredMessage { id, posted, run, state, max_attempts, progress, signal } = stored;
        let delay = posted.delay();
        let PostedRecord { message: posted, created_at, due_at, expires_at, ready_at: _, schedule, scheduled_at } =
            posted;
        // The pattern has no `..`, so the compiler reports a field that is neither shown nor left out on purpose.
        let NewMessage {
            data,
            name,
            group,
            headers,
            priority,
            max_attempts: own_max_attempts,
            id: own_id,
            hold,
            backoff: _,
            timeout: _,
            ttl: _,
            delay: _,
            deliver_at: _,
        } = posted;
        let mut message = Self {
            id: own_id.map_or(id, MessageRef::Own),
            queue,
            name,
            group,
            state: State::Waiting,
            data,
            priority,
            delay,
            max_attempts: own_max_attempts.unwrap_or(max_attempts),
            attempts_made: 0,
            deliveries: 0,
            lapses: 0,
            headers,
            created_at,
            due_at,
            started_at: None,
            finished_at: None,
            expires_at,
            hold: None,
            signal,
            consumer: None,
            progress,
            result: None,
            error: None,
            earlier_errors: vec![],
            schedule,
            scheduled_at,
        };
        match state {
            StoredState::Held => {
                message.state = State::Held;
                message.hold = hold;
                message.show_run(run);
            }
            StoredState::Waiting => message.show_run(run),
            StoredState::Delayed(due_at) => {
                message.state = State::Delayed;
                message.due_at = due_at;
                message.show_run(run);
            }
            StoredState::Active => {
                message.state = State::Active;
                message.show_run(run);
            }
            StoredState::Finished(outcome) => {
                message.finished_at = Some(outcome.finished_at);
                message.show_run(outcome.run);
                match outcome.end {
                    End::Completed(result) => {
                        message.state = State::Completed;
                        message.result = Some(result);
                        message.earlier_errors.extend(message.error.take());
                    }
                    End::Failed(error) => {
                        message.state = State::Failed;
                        message.earlier_errors.extend(message.error.replace(error));
                    }
                }
            }
        }
        message
    }

    fn show_run(&mut self, run: Run) {
        self.attempts_made = run.attempts;
        self.deliveries = run.deliveries;
        self.lapses = run.lapses;
        self.started_at = run.started_at;
        self.consumer = run.consumer;
        self.error = run.errors.last;
        self.earlier_errors = run.errors.earlier;
    }
}
