//! Leases: what consumers ask for, and what they are answered.

use queue_core::{ConsumerId, Delivery, LeaseToken, Message, Millis, MostMessages, State, Timestamp};
use serde::{Deserialize, Serialize};
use service::Code;
use utoipa::ToSchema;

use super::{LeaseTime, True, Wait, members::or_default, reading::Body};

/// What to receive.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"max": 10, "visibility_timeout": "30s"})))]
pub(crate) struct Receive {
    /// How many messages at most; 1 if absent.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(inline, value_type = Option<MostMessages>)]
    pub(crate) max: MostMessages,
    /// How long to wait for the first; not at all if absent.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(value_type = Option<Wait>)]
    pub(crate) wait: Wait,
    /// How long the leases last; the queue's if absent.
    #[schema(inline)]
    pub(crate) visibility_timeout: Option<LeaseTime>,
    /// The consumer that receives: an id that an earlier answer named. A new one if absent.
    #[schema(inline)]
    pub(crate) consumer: Option<ConsumerId>,
}

impl Body for Receive {
    const INVALID: Code = Code::InvalidReceive;
}

/// Messages with their leases; none when the wait is over.
#[derive(Serialize, ToSchema)]
pub(crate) struct Received {
    #[schema(inline)]
    pub(crate) consumer: ConsumerId,
    #[schema(max_items = 1000)]
    pub(crate) messages: Vec<LeasedMessage>,
}

/// A message with the right to work on it.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeasedMessage {
    #[serde(flatten)]
    message: Message,
    lease: LeaseToken,
    lease_expires_at: Timestamp,
    /// How long this run may take, in milliseconds.
    #[schema(required, value_type = Option<u64>)]
    timeout: Option<Millis>,
}

impl From<Delivery> for LeasedMessage {
    fn from(Delivery { message, lease, lease_expires_at, timeout, .. }: Delivery) -> Self {
        Self { message, lease, lease_expires_at, timeout }
    }
}

/// What became of one lease.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ended {
    pub(crate) lease: LeaseToken,
    #[schema(inline)]
    pub(crate) outcome: Outcome,
    /// Only there when it was extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) lease_expires_at: Option<Timestamp>,
    /// Only there when somebody cancelled the message: stop, and settle it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) cancel_requested: Option<True>,
}

/// What became of a lease.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The lease lasts longer.
    Extended,
    /// The lease was over, and nothing was changed.
    Gone,
    Held,
    Delayed,
    Waiting,
    Active,
    Completed,
    Failed,
}

impl From<State> for Outcome {
    fn from(state: State) -> Self {
        match state {
            State::Held => Self::Held,
            State::Delayed => Self::Delayed,
            State::Waiting => Self::Waiting,
            State::Active => Self::Active,
            State::Completed => Self::Completed,
            State::Failed => Self::Failed,
        }
    }
}

/// What became of each, in the order given.
#[derive(Serialize, ToSchema)]
pub(crate) struct EndedAll {
    pub(crate) settlements: Vec<Ended>,
}
