//! The request for leases, and the outcomes of leases.

use queue_core::{ConsumerId, Delivery, LeaseToken, Message, Millis, State, Timestamp};
use serde::{Deserialize, Serialize};
use service::Code;
use utoipa::ToSchema;

use super::{LeaseTime, Limit, True, Wait, json::Body};

/// A request for messages.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"max": 10, "visibility_timeout": "30s"})))]
pub(crate) struct Receive {
    /// The maximum number of messages; 1 if absent.
    #[schema(inline)]
    pub(crate) max: Option<Limit>,
    /// The time to wait for the first message; 0 if absent.
    pub(crate) wait: Option<Wait>,
    /// The time for which the leases last; if absent, the queue's setting `visibility_timeout`.
    #[schema(inline)]
    pub(crate) visibility_timeout: Option<LeaseTime>,
    /// The id of the consumer, from an earlier response. If absent, the consumer gets a new id.
    #[schema(inline)]
    pub(crate) consumer: Option<ConsumerId>,
}

impl Body for Receive {
    const INVALID_BODY_CODE: Code = Code::InvalidReceive;
}

/// Messages with their leases. The list of messages is empty if no message came within the wait.
#[derive(Serialize, ToSchema)]
pub(crate) struct Received {
    #[schema(inline)]
    pub(crate) consumer: ConsumerId,
    #[schema(max_items = 1000)]
    pub(crate) messages: Vec<LeasedMessage>,
}

/// A message with its lease.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeasedMessage {
    #[serde(flatten)]
    message: Message,
    lease: LeaseToken,
    lease_expires_at: Timestamp,
    /// The time that the run of the message may take, in milliseconds.
    #[schema(required, value_type = Option<u64>)]
    timeout: Option<Millis>,
}

impl From<Delivery> for LeasedMessage {
    fn from(Delivery { message, lease, lease_expires_at, timeout, .. }: Delivery) -> Self {
        Self { message, lease, lease_expires_at, timeout }
    }
}

/// The outcome of settling or extending one lease.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeaseResult {
    pub(crate) lease: LeaseToken,
    #[schema(inline)]
    pub(crate) outcome: Outcome,
    /// The new deadline of the lease; present only if the lease was extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) lease_expires_at: Option<Timestamp>,
    /// Present only if the message was cancelled: stop working on the message, and settle its lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) cancel_requested: Option<True>,
}

/// The outcome of a lease: `extended`, `gone`, or the new state of the message.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The lease was extended.
    Extended,
    /// The lease was over; nothing was changed.
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

/// The outcome of each lease, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeaseResults {
    pub(crate) settlements: Vec<LeaseResult>,
}
