use serde_json::{Value, json};

use super::answer;

pub(super) fn schemas() -> Value {
    let mut ready = answer("It is ready", json!({"status": {"const": "ready"}}));
    ready["properties"]["warnings"] = json!({"type": "array", "items": {"type": "string"}, "description": "Only there when Redis is run so that messages may be lost"});
    json!({
        "Alive": answer("It serves", json!({"status": {"const": "alive"}})),
        "Ready": ready,
        "Description": {"type": "object", "required": ["openapi", "info", "paths"], "description": "An OpenAPI document"},
    })
}
