//! What is taken and answered: one file a noun.

mod batch;
mod event;
mod lease;
mod message;
mod new_message;
mod problem;
mod queue;
mod service;
mod settings;
mod signal;
mod text;

use queue_core::Millis;
use serde_json::{Map, Value, json};

pub(super) use text::{ANY_ID, EVENT_ID, IDEMPOTENCY_KEY, QUEUE_NAME, SIGNAL_KEY};

/// All schemas, by name.
pub(super) fn all(max_wait: Millis) -> Value {
    let all = [
        message::schemas(),
        new_message::schemas(),
        batch::schemas(),
        event::schemas(),
        queue::schemas(),
        settings::schemas(),
        lease::schemas(max_wait),
        signal::schemas(),
        problem::schemas(),
        service::schemas(),
    ];
    all.into_iter()
        .filter_map(|some| if let Value::Object(some) = some { Some(some) } else { None })
        .flatten()
        .collect::<Map<_, _>>()
        .into()
}

/// A reference to one.
fn of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn or_null(name: &str) -> Value {
    json!({"anyOf": [of(name), {"type": "null"}]})
}

/// An object that is answered: each member is always there.
fn answer(description: &str, properties: Value) -> Value {
    let names: Vec<String> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    let mut schema = json!({"type": "object", "description": description, "required": names});
    schema["properties"] = properties;
    schema
}

/// An object that is taken: what it does not know is refused.
fn request(description: &str, required: &[&str], properties: Value) -> Value {
    let mut schema =
        json!({"type": "object", "description": description, "required": required, "additionalProperties": false});
    schema["properties"] = properties;
    schema
}

/// A whole number of messages or the like.
fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}
