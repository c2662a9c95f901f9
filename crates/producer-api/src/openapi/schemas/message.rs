use queue_core::State;
use serde_json::{Value, json};

use super::{answer, count, of, or_null};

pub(super) fn schemas() -> Value {
    let instant_or_null =
        |description: &str| json!({"anyOf": [of("Instant"), {"type": "null"}], "description": description});
    let text_or_null = |description: &str| json!({"type": ["string", "null"], "description": description});
    let any = |description: &str| json!({"description": description});
    let states: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
    let mut message = answer(
        "A message as it is now",
        json!({
            "id": {"type": "string", "description": "The producer's own id, or Drover's where there is none"},
            "queue": {"type": "string"},
            "name": text_or_null("The kind of message, by which workers route"),
            "state": of("State"),
            "data": any("The payload, as it came"),
            "priority": {"type": "integer", "description": "The lower goes first"},
            "delay": count("From creation until it was due first, in milliseconds"),
            "max_attempts": count("How many attempts it has"),
            "attempts_made": count("How many attempts have ended, by completing or failing"),
            "deliveries": count("How often it was handed out"),
            "lapses": count("How many of its leases ended without a word of their consumer"),
            "headers": {"type": "object", "additionalProperties": {"type": "string"}, "description": "What the producer sent beside the data"},
            "created_at": of("Instant"),
            "due_at": of("Instant"),
            "started_at": instant_or_null("When it was handed out last"),
            "finished_at": instant_or_null("When it was completed, or failed for good"),
            "expires_at": instant_or_null("When it expires unless it has started"),
            "hold": text_or_null("The key of the signal that it waits for"),
            "consumer": text_or_null("Who has it, or had it last"),
            "progress": any("What its handler reported last"),
            "result": any("What its handler answered"),
            "error": or_null("MessageError"),
        }),
    );
    message["properties"]["signal"] =
        any("What the signal carried that released it; only there if it carried anything");
    message["examples"] = json!([example()]);
    let mut posted = json!({"allOf": [of("Message")], "properties": {"duplicate": of("Duplicate")}});
    posted["description"] = "The message, and whether it stood already".into();
    json!({
        "State": {"type": "string", "enum": states, "description": "Where a message stands"},
        "Instant": {"type": "string", "format": "date-time", "examples": ["2026-11-23T11:13:13.727Z"],
                    "description": "By Redis's clock, in UTC with milliseconds"},
        "Message": message,
        "MessageError": answer("The error of the last attempt that failed", json!({
            "code": {"type": "string", "description": "A word that a program can match"},
            "message": {"type": "string", "description": "A sentence for people"},
            "attempt": {"type": "integer", "minimum": 0, "description": "Which attempt it was, from 1; 0 if there was none"},
            "at": of("Instant"),
        })),
        "GoneMessage": answer("What is left to say of a message that is no longer kept", json!({
            "id": {"type": "string"},
            "queue": {"type": "string"},
            "state": {"type": "null"},
        })),
        "Duplicate": {"const": true, "description": "Only there, and true, when the message stood already"},
        "PostedMessage": posted,
        "ChangedMessage": {"anyOf": [of("Message"), of("GoneMessage")], "description": "The message after that; its id if it is no longer kept by then"},
        "DuplicateMessage": {
            "anyOf": [duplicate("Message"), duplicate("GoneMessage")],
            "description": "The message that stood already; its id if it is no longer kept",
        },
        "MessagePage": {
            "type": "object",
            "required": ["messages"],
            "properties": {
                "messages": {"type": "array", "items": of("Message")},
                "next_cursor": {"type": "string", "description": "Where the list goes on; absent at the end"},
            },
        },
    })
}

/// A message that stood already. The member stands in each alternative: generators of types take one beside them for another
/// alternative.
fn duplicate(message: &str) -> Value {
    json!({"allOf": [of(message)], "required": ["duplicate"], "properties": {"duplicate": of("Duplicate")}})
}

fn example() -> Value {
    json!({
        "id": "21759559372713", "queue": "my-queue", "name": null, "state": "completed", "data": {"hello": 1},
        "priority": 0, "delay": 1500, "max_attempts": 3, "attempts_made": 1, "deliveries": 1, "lapses": 0, "headers": {},
        "created_at": "2026-11-23T11:13:13.727Z", "due_at": "2026-11-23T11:13:15.227Z",
        "started_at": "2026-11-23T11:13:15.228Z", "finished_at": "2026-11-23T11:13:15.229Z", "expires_at": null,
        "hold": null, "consumer": "c-03e14db4f7f6", "progress": null, "result": "processed ✅", "error": null,
    })
}
