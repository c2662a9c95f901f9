//! A rate limit: a maximum number of leases of a queue, or of requests of an API key, in a window of time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    range::{DurationIn, NumberIn},
    time::Millis,
};

/// A rate limit: at most `max` leases or requests in any window of `duration`, wherever the window starts, by Redis's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// The maximum number of leases or requests: 1 to 1,000,000.
    #[schema(inline)]
    pub max: NumberIn<1, 1_000_000>,
    /// The length of the window: 1 ms to 24 h.
    #[schema(inline)]
    pub duration: DurationIn<1, { Millis::from_hours(24).get() }>,
}
