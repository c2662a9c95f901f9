use serde_json::{Value, json};

use super::{answer, count, of, or_null};

pub(super) fn schemas() -> Value {
    let summary = json!({
        "enqueued": count("Messages stored"),
        "duplicates": count("Messages that stood already"),
        "refused": {"type": "array", "maxItems": 100, "items": of("RefusedLine"), "description": "The first 100 lines that were refused"},
        "refused_count": count("All lines that were refused"),
        "done": {"const": true},
    });
    json!({
        "PostedBatch": answer("What came of each message, in the order given", json!({
            "messages": {"type": "array", "items": of("BatchEntry")},
        })),
        "BatchEntry": answer("What came of one message", json!({
            "id": {"type": "string"},
            "state": or_null("State"),
            "duplicate": {"type": "boolean", "description": "Whether it stood already"},
        })),
        "BatchOrLines": {"anyOf": [of("PostedBatch"), of("LinesSummary")]},
        "LinesSummary": answer("What came of all lines", summary),
        "RefusedLine": {
            "type": "object",
            "required": ["line", "code", "detail"],
            "properties": {
                "line": {"type": "integer", "minimum": 1},
                "code": {"type": "string"},
                "detail": {"type": "string"},
                "errors": {"type": "array", "maxItems": 10, "items": of("FieldError")},
            },
        },
    })
}
