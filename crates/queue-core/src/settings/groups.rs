//! Groups: how many messages of one group are active at a time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::range::NumberIn;

/// How a queue treats messages with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Groups {
    /// How many messages of a group are active at a time: 1 to 1,000; null for no limit; defaults to 1.
    #[schema(inline)]
    pub concurrency: Option<NumberIn<1, 1_000>>,
}

impl Default for Groups {
    fn default() -> Self {
        Self { concurrency: Some(const { NumberIn::of(1) }) }
    }
}
