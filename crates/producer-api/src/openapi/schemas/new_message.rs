use queue_core::{Backoff, Due, MAX_MESSAGES_PER_CALL, Millis, NewMessage};
use serde_json::{Value, json};
use utoipa::PartialSchema as _;

use super::{
    given, not_both, of, request, request_or_null,
    text::{INSTANT, NAME, OWN_ID, SIGNAL_KEY},
};
use crate::openapi::ranges::duration;

pub(super) fn schemas() -> Value {
    let text = |description: &str, pattern: &str, most: u32, example: &str| json!({"type": "string", "description": description, "minLength": 1, "maxLength": most, "pattern": pattern, "examples": [example]});
    let millisecond = Millis::new(1);
    let mut backoff = serde_json::to_value(Backoff::schema()).unwrap_or_default();
    let mut message = request_or_null(
        "A message to be posted",
        &["data"],
        json!({
            "data": {"description": "The payload: any JSON, kept byte for byte"},
            "name": text("The kind of message, by which workers route", NAME, 128, "welcome"),
            "id": text("An id of your own, not all digits: posting it again stores nothing", OWN_ID, 256, "order-42"),
            "delay": duration("How long until it may be handed out; not with deliver_at", Millis::ZERO, Due::LONGEST_DELAY),
            "deliver_at": {
                "type": "string", "pattern": INSTANT, "examples": ["2030-01-31T09:30:00Z"],
                "description": "The instant at which it may be handed out, RFC 3339, before the year 2200; not with delay",
            },
            "priority": {"type": "integer", "minimum": -2_097_152, "maximum": 2_097_152,
                         "description": "The lower goes first; negative ones before those without. 0 if absent"},
            "max_attempts": {"type": "integer", "minimum": 1, "maximum": 1_000, "description": "How many attempts it has; the queue's if absent"},
            "backoff": request_or_null("The pause before another attempt; the queue's if absent", &[], backoff["properties"].take()),
            "timeout": duration("How long one run may take; the queue's if absent", millisecond, NewMessage::LONGEST_TIMEOUT),
            "ttl": duration("For how long after it was posted it may still be started; for ever if absent", millisecond, Due::LONGEST_DELAY),
            "hold": text("The key of the signal that it waits for", SIGNAL_KEY, 256, "paid:42"),
            "headers": {"type": "object", "maxProperties": 32, "additionalProperties": {"type": "string"},
                        "description": "What consumers see beside the data: together at most 4096 bytes"},
        }),
    );
    message["not"] = not_both([("delay", given()), ("deliver_at", given())]);
    message["examples"] =
        json!([{"data": {"hello": 1}, "delay": "1500ms"}, {"data": 2, "id": "order-42", "priority": -1}]);
    let messages =
        json!({"type": "array", "items": of("NewMessage"), "minItems": 1, "maxItems": MAX_MESSAGES_PER_CALL});
    let mut batch = request("Messages to be posted, all or none", &["messages"], json!({"messages": messages}));
    batch["examples"] = json!([{"messages": [{"data": 1}, {"data": 2, "id": "order-43", "delay": "1h"}]}]);
    json!({
        "NewMessage": message,
        "NewBatch": batch,
        "NewLines": {
            "type": "string",
            "description": "A NewMessage a line, as many as there are; empty lines are passed over",
            "examples": ["{\"data\":1}\n{\"data\":2,\"id\":\"order-43\"}\n"],
        },
    })
}
