//! Lists of queues, and the operations on all messages of a queue.

use queue_core::{QueueName, QueueStatus, State};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use super::Limit;
use crate::{
    errors::{self, Result},
    request::query,
};

/// The query of a list of queues.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueueQuery {
    /// List only queues whose names begin with this text.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline)]
    pub(crate) prefix: Option<QueueName>,
    /// The maximum number of queues; 100 if absent.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline)]
    pub(crate) limit: Option<Limit>,
    /// The `next_cursor` of the previous page.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline, value_type = Option<QueueName>)]
    pub(crate) cursor: Option<String>,
}

/// A page of the queues that the API key may read.
#[derive(Serialize, ToSchema)]
pub(crate) struct Queues {
    pub(crate) queues: Vec<QueueStatus>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, inline)]
    pub(crate) next_cursor: Option<QueueName>,
}

/// The effect of a purge.
#[derive(Serialize, ToSchema)]
pub(crate) struct Purged {
    /// The number of messages that were deleted.
    pub(crate) purged: u64,
}

/// The effect of a retry of all failed messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct Retried {
    /// The number of failed messages that the retry made ready.
    pub(crate) retried: u64,
}

/// The query of a purge: `?state=failed`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PurgeQuery {
    /// The state of the messages to delete. Active messages are not purged.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(required, inline, value_type = PurgedState)]
    state: Option<String>,
}

impl PurgeQuery {
    /// Returns the state of the messages to purge, or an error if the state is missing, unknown or `active`.
    pub(crate) fn state(&self) -> Result<State> {
        match self.state.as_deref().map(str::parse) {
            Some(Ok(State::Active)) => Err(errors::ACTIVE_MESSAGES_ARE_NOT_PURGED.into()),
            Some(Ok(state)) => Ok(state),
            None | Some(Err(_)) => Err(errors::NO_STATE_TO_PURGE.into()),
        }
    }
}

/// A state whose messages can be purged.
struct PurgedState;

impl PartialSchema for PurgedState {
    fn schema() -> RefOr<Schema> {
        let purged_states = State::ALL.iter().copied().filter(|state| *state != State::Active);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(purged_states.map(State::as_str))).into()
    }
}

impl ToSchema for PurgedState {}

/// The query of an operation that can't be undone: `?confirm={queue}`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Confirmation {
    /// The name of the queue once more, as a confirmation: the deletion can't be undone.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(required, inline, value_type = QueueName)]
    pub(crate) confirm: Option<String>,
}
