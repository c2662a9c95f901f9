use queue_core::State;
use serde_json::{Map, Value, json};

use super::{answer, count, of};

pub(super) fn schemas() -> Value {
    let counts: Map<String, Value> =
        State::ALL.iter().map(|state| (state.as_str().to_owned(), json!({"type": "integer", "minimum": 0}))).collect();
    json!({
        "Queue": answer("How a queue stands", json!({
            "queue": {"type": "string"},
            "paused": {"type": "boolean"},
            "counts": answer("How many messages are in each state", counts.into()),
            "oldest_waiting_age": {"type": ["integer", "null"], "minimum": 0,
                "description": "For how many milliseconds the message at the head of the line has been due"},
            "settings": of("Settings"),
            "totals": answer("What happened since the queue exists", json!({
                "enqueued": count("Messages stored"),
                "completed": count("Messages completed"),
                "failed": count("Messages failed for good"),
                "retried": count("Failed attempts that were followed by another"),
                "lapsed": count("Leases that lapsed"),
                "expired": count("Messages that were not started in time"),
                "cancelled": count("Messages cancelled"),
            })),
        })),
        "Queues": answer("The queues that there are, and that the key may read", json!({
            "queues": {"type": "array", "items": of("Queue")},
        })),
        "Purged": answer("What a purge did", json!({"purged": count("Messages forgotten")})),
        "Retried": answer("What a retry of all did", json!({"retried": count("Messages that are ready again")})),
    })
}
