//! The types of request and response bodies, which derive deserialization, serialization and `OpenAPI` schemas.

pub(crate) mod batch;
pub(crate) mod cursor;
pub(crate) mod event;
mod failure_reason;
pub(crate) mod json;
pub(crate) mod key;
pub(crate) mod lease;
pub(crate) mod message;
pub(crate) mod queue;
pub(crate) mod schedule;
pub(crate) mod settlement;
pub(crate) mod signal;

use queue_core::{DurationIn, Millis, NewMessage, NumberIn, settings::Settings};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

/// The maximum number of messages, queues or other list items of a response, which the request sets.
pub(crate) type Limit = NumberIn<1, 1_000>;

/// Returns the limit of a request, or the default of the endpoint if the request has no limit.
pub(crate) fn limit_or(default: usize, limit: Option<Limit>) -> usize {
    limit.map_or(default, |limit| usize::try_from(*limit).unwrap_or(default))
}

/// The delay of a message, within the allowed range.
pub(crate) type Delay = DurationIn<0, { NewMessage::LONGEST_DELAY.get() }>;
/// The duration of a lease, within the allowed range.
pub(crate) type LeaseTime = DurationIn<{ Settings::SHORTEST_LEASE.get() }, { Settings::LONGEST_LEASE.get() }>;

/// The time in milliseconds for which a request waits for messages to lease, or for the end of a message. The `OpenAPI`
/// description of `Wait` states the maximum that `api.max_wait` allows.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[schema(value_type = u64)]
pub(crate) struct Wait(Millis);

impl Wait {
    /// Returns the wait that a request asks for, or an error if that wait is longer than the configuration allows.
    pub(crate) fn check_limit(self, max: Millis) -> Result<Millis, String> {
        if self.0 <= max {
            return Ok(self.0);
        }
        Err(format!("must be at most {max} (api.max_wait); to wait longer, ask again after that"))
    }
}

impl std::str::FromStr for Wait {
    type Err = <Millis as std::str::FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The value of a JSON member that is present only if it is `true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct True;

impl Serialize for True {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl PartialSchema for True {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([true])).into()
    }
}

impl ToSchema for True {}
