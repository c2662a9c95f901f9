use queue_core::{MAX_MESSAGES_PER_CALL, Millis, State};
use serde_json::{Value, json};

use super::{
    ranges::duration,
    schemas::{ANY_ID, EVENT_ID, IDEMPOTENCY_KEY, QUEUE_NAME, SIGNAL_KEY},
};

/// All parameters, by their names here.
pub(super) fn all(max_wait: Millis) -> Value {
    let path = |name: &str, description: &str, pattern: &str, most: Option<u32>, example: &str| {
        let mut schema = json!({"type": "string", "pattern": pattern});
        if let Some(most) = most {
            schema["minLength"] = 1.into();
            schema["maxLength"] = most.into();
        }
        json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema,
               "example": example})
    };
    let query = |name: &str, required: bool, description: &str, schema: Value| json!({"name": name, "in": "query", "required": required, "description": description, "schema": schema});
    let states: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
    let purged: Vec<&str> = states.iter().copied().filter(|state| *state != "active").collect();
    json!({
        "queue": path("queue", "The queue's name", QUEUE_NAME, None, "orders"),
        "id": path("id", "The message's id: Drover's, or the producer's own", ANY_ID, Some(256), "21759559372713"),
        "key": path("key", "The key that messages are held for", SIGNAL_KEY, Some(256), "paid:42"),
        "wait": query("wait", false, "Answer when the message is completed or failed, or when this time is over. Without it: at once",
            duration("How long to wait", Millis::ZERO, max_wait)),
        "state": query("state", false, "List the messages of this state only", json!({"type": "string", "enum": states})),
        "purged": query("state", true, "Which messages to forget; active ones are not purged", json!({"type": "string", "enum": purged})),
        "limit": query("limit", false, "How many at most; 50 if absent", json!({"type": "integer", "minimum": 1, "maximum": MAX_MESSAGES_PER_CALL})),
        "cursor": query("cursor", false, "The `next_cursor` of the page before", json!({"type": "string", "pattern": "^[A-Za-z0-9_-]+$"})),
        "confirm": query("confirm", true, "The queue's name once more: this can't be undone", json!({"type": "string", "pattern": QUEUE_NAME})),
        "message": query("message", false, "What happens to this message only; it need not be posted yet",
            json!({"type": "string", "pattern": ANY_ID, "minLength": 1, "maxLength": 256})),
        "last-event-id": {
            "name": "Last-Event-ID", "in": "header", "required": false,
            "description": "The last id that the stream gave: it goes on after that. An `EventSource` sends it by itself",
            "schema": {"type": "string", "pattern": EVENT_ID},
        },
        "idempotency-key": {
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A key drawn for this request: sent again with it, the same request stores nothing more. 1 to 255 visible ASCII characters, bare or in quotes; not with NDJSON",
            // Without an example: the page would send it with every request that is tried.
            "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY},
        },
    })
}

/// One of them, as an operation names it.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// Those that a path has.
pub(super) fn of_path(path: &str) -> Vec<Value> {
    ["queue", "id", "key"].into_iter().filter(|name| path.contains(&format!("{{{name}}}"))).map(reference).collect()
}
