//! What is taken and answered: one file a noun.

mod batch;
mod event;
mod lease;
mod message;
mod new_message;
mod problem;
mod queue;
mod service;
mod signal;
mod text;

use queue_core::{Millis, SettingsPatch, ShownSettings};
use serde_json::{Map, Value, json};
use utoipa::PartialSchema as _;

pub(super) use text::{ANY_ID, EVENT_ID, IDEMPOTENCY_KEY, QUEUE_NAME, SIGNAL_KEY};

/// All schemas, by name.
pub(super) fn all(max_wait: Millis) -> Value {
    let all = [
        message::schemas(),
        new_message::schemas(),
        batch::schemas(),
        event::schemas(),
        queue::schemas(),
        json!({"SettingsPatch": SettingsPatch::schema(), "Settings": ShownSettings::schema()}),
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

/// The same, where an optional field that is null counts as absent. It has no default: generators of types take a field with
/// one for a field that is always there.
fn request_or_null(description: &str, required: &[&str], mut properties: Value) -> Value {
    for (name, schema) in properties.as_object_mut().into_iter().flatten() {
        // A value without a kind may be null as it is.
        let is_any = ["type", "anyOf", "allOf", "$ref"].iter().all(|kind| schema.get(kind).is_none());
        if !required.contains(&name.as_str()) && !is_any {
            nullable(schema);
        }
    }
    request(description, required, properties)
}

/// Lets a schema be null too. What is said of it stays where it is found.
fn nullable(schema: &mut Value) {
    let description = schema.as_object_mut().and_then(|members| members.remove("description"));
    *schema = json!({"anyOf": [schema.take(), {"type": "null"}]});
    if let Some(description) = description {
        schema["description"] = description;
    }
}

/// A schema of the combination that is refused: both fields are there, each of this kind.
fn not_both(fields: [(&str, Value); 2]) -> Value {
    let required = fields.each_ref().map(|(name, _)| *name);
    let properties: Map<String, Value> = fields.map(|(name, schema)| (name.to_owned(), schema)).into_iter().collect();
    json!({"required": required, "properties": properties})
}

/// Anything but null, which counts as absent.
fn given() -> Value {
    json!({"not": {"type": "null"}})
}

/// A whole number of messages or the like.
fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}
