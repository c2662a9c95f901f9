use serde_json::{Value, json};

use super::of;

pub(super) fn schemas() -> Value {
    json!({
        "Problem": {
            "type": "object",
            "description": "A refusal, as RFC 9457 has it",
            "required": ["type", "title", "status", "detail", "code", "request_id"],
            "properties": {
                "type": {"type": "string", "pattern": "^urn:drover:problem:[a-z_]+$"},
                "title": {"type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"type": "string", "minLength": 1, "description": "What was wrong and what to do about it, for people"},
                "code": {"type": "string", "description": "A word that a program can match"},
                "request_id": {"type": "string", "description": "As in the header x-request-id, and in the log"},
                "errors": {"type": "array", "maxItems": 100, "items": of("FieldError"), "description": "What is wrong with which field"},
                "scope": {"type": "string", "description": "With forbidden: what the key lacks"},
                "stored_through": {"type": "integer", "minimum": 0, "description": "With NDJSON: every line up to this one is stored or refused"},
                "in_doubt": {
                    "type": "object",
                    "required": ["from", "to"],
                    "properties": {"from": {"type": "integer"}, "to": {"type": "integer"}},
                    "description": "With NDJSON, when Redis went away: these lines may be stored or not",
                },
            },
        },
        "FieldError": {
            "type": "object",
            "required": ["pointer", "detail"],
            "properties": {
                "pointer": {"type": "string", "description": "Where, as a JSON pointer"},
                "detail": {"type": "string", "description": "What is wrong and what would be right"},
            },
        },
    })
}
