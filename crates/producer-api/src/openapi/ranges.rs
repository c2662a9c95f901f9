//! Ranges of durations, as schemas can say them.

use queue_core::Millis;
use serde_json::Value;

/// What a duration in this range may be: whole milliseconds, or a text with units.
pub(super) fn duration(description: &str, least: Millis, most: Millis) -> Value {
    let mut schema = serde_json::to_value(Millis::schema_within(least, most)).unwrap_or_default();
    schema["description"] = description.into();
    schema
}
