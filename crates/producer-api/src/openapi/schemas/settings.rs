use queue_core::{Backoff, Millis, NewMessage, Settings};
use serde_json::{Map, Value, json};

use super::request;
use crate::openapi::ranges::duration;

const MILLISECOND: Millis = Millis::new(1);

pub(super) fn schemas() -> Value {
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    let settings = json!({
        "visibility_timeout": duration("How long a lease lasts unless it is extended", Settings::SHORTEST_LEASE, Settings::LONGEST_LEASE),
        "max_attempts": whole("How many attempts a message has", 1, 1_000),
        "backoff": request("The pause before another attempt", &[], backoff()),
        "max_lapses": whole("The lapse that ends a message", 1, 1_000),
        "rate_limit": request("At most so many leases in any such window, over all consumers; both together, unless a limit stands", &[], json!({
            "max": whole("How many leases", 1, 1_000_000),
            "duration": duration("The window", MILLISECOND, Millis::from_hours(24)),
        })),
        "exclusive": {"description": "true: one consumer at a time, one message at a time; parallel: so many at a time", "anyOf": [
            {"type": "boolean"},
            request("So many at a time", &[], json!({"parallel": whole("How many messages", 1, 1_000)})),
        ]},
        "timeout": duration("How long one run may take", MILLISECOND, NewMessage::LONGEST_TIMEOUT),
        "idempotency_window": duration("For how long an Idempotency-Key is remembered", Millis::from_secs(1), Millis::from_days(30)),
        "id_window": duration("For how long after its message has finished an own id stays taken, also when the message is no longer kept", Millis::ZERO, Millis::from_days(30)),
        "max_length": whole("How many messages that have not finished the queue takes", 1, Settings::GREATEST_LENGTH),
        "retention": request("For how long finished messages are kept", &[], json!({
            "completed": keep("Completed ones"),
            "failed": keep("Failed ones"),
        })),
    });
    let mut patch = request(
        "A merge patch: what it does not name stays, a null brings back the default",
        &[],
        nullable(settings, &defaults),
    );
    patch["examples"] =
        json!([{"max_attempts": 5, "rate_limit": {"max": 100, "duration": "1s"}, "retention": {"failed": null}}]);
    json!({"SettingsPatch": patch, "Settings": shown(&defaults)})
}

/// The fields of a back-off as it is taken, of a queue or a message.
pub(super) fn backoff() -> Value {
    json!({
        "type": {"type": "string", "enum": ["fixed", "exponential"]},
        "delay": duration("The pause after the first failed attempt", Millis::ZERO, Backoff::LONGEST),
        "max": duration("The longest pause", Millis::ZERO, Backoff::LONGEST),
        "jitter": {"type": "number", "minimum": 0, "maximum": 1, "description": "How much of the pause may be taken away at random"},
    })
}

fn keep(description: &str) -> Value {
    let longest = Millis::from_days(3_650);
    let description = format!(
        "{description}: one goes when it is older than age, or when there are more than count and it is older than min_age, which is not longer than age"
    );
    request(
        &description,
        &[],
        json!({
            "age": duration("The longest that one is kept", Millis::ZERO, longest),
            "count": whole("How many are kept; 0 keeps none", 0, 1_000_000_000),
            "min_age": duration("The shortest that one is kept", Millis::ZERO, longest),
        }),
    )
}

fn whole(description: &str, least: u64, most: u64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most, "description": description})
}

/// Each of these may be null where it has a default to come back to. The default is told in words: generators of types take a
/// field with one for a field that is always there.
fn nullable(settings: Value, defaults: &Value) -> Value {
    let Value::Object(settings) = settings else { return settings };
    let nullable: Map<String, Value> = settings
        .into_iter()
        .map(|(name, mut schema)| {
            let Some(default) = defaults.get(&name) else { return (name, schema) };
            if let Some(members) = schema.get_mut("properties") {
                *members = nullable(members.take(), default);
            }
            let description = format!("null brings back the default: {default}");
            (name, json!({"anyOf": [schema, {"type": "null"}], "description": description}))
        })
        .collect();
    nullable.into()
}

/// Settings as they are answered: all of them, durations in milliseconds.
fn shown(defaults: &Value) -> Value {
    let number = json!({"type": "number", "minimum": 0});
    let number_or_null = json!({"type": ["integer", "null"], "minimum": 0});
    let keep = super::answer("", json!({"age": number, "count": number, "min_age": number}));
    let limit = super::answer("", json!({"max": number, "duration": number}));
    let mut shown = super::answer(
        "All settings; durations in milliseconds",
        json!({
            "visibility_timeout": number,
            "max_attempts": number,
            "backoff": super::answer("", json!({"type": {"type": "string", "enum": ["fixed", "exponential"]}, "delay": number, "max": number, "jitter": number})),
            "max_lapses": number,
            "rate_limit": {"anyOf": [limit, {"type": "null"}]},
            "exclusive": {"anyOf": [{"type": "boolean"}, super::answer("", json!({"parallel": number}))]},
            "timeout": number_or_null,
            "idempotency_window": number,
            "id_window": number,
            "max_length": number_or_null,
            "retention": super::answer("", json!({"completed": keep, "failed": keep})),
        }),
    );
    shown["examples"] = json!([defaults]);
    shown
}
