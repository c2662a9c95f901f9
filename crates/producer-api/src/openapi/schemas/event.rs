use queue_core::EventKind;
use serde_json::{Value, json};

pub(super) fn schemas() -> Value {
    let kinds: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).chain(["reset"]).collect();
    json!({
        "StreamedEvent": {
            "type": "object",
            "description": "One event of the stream, by its fields",
            "properties": {
                "id": {"type": "string", "description": "Come back with it in Last-Event-ID"},
                "event": {"type": "string", "enum": kinds},
                "data": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "description": "An object with the id of the message, at, its state, and what else there is to say",
                    "examples": ["{\"id\":\"order-42\",\"at\":\"2026-11-23T09:00:00.123Z\",\"state\":\"waiting\"}"],
                },
                "retry": {"type": "integer"},
            },
        },
    })
}
