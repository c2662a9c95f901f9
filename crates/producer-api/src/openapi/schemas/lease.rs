use queue_core::{Due, LeaseTime, MAX_MESSAGES_PER_CALL, MAX_RESULT_BYTES, Millis, State};
use serde_json::{Map, Value, json};

use super::{
    answer, given, not_both, of, request, request_or_null,
    text::{CONSUMER, LEASE},
};
use crate::openapi::ranges::duration;

const EXAMPLE: &str = "21759559372713-mY9hV1Qb0mX3cG7n2sKk5A";

/// Each action with what it takes beside the lease.
fn actions() -> [(&'static str, &'static str, Value); 4] {
    let any =
        |description: &str| json!({"description": format!("{description}: any JSON up to {MAX_RESULT_BYTES} bytes")});
    let pause = |description: &str| duration(description, Millis::ZERO, Due::LONGEST_DELAY);
    [
        ("complete", "The work is done", json!({"result": any("What came of it")})),
        (
            "fail",
            "The attempt failed",
            json!({
                "error": {"description": "Why. A text alone is its message", "anyOf": [
                    {"type": "string"},
                    request_or_null("Why", &[], json!({
                        "code": {"type": "string", "description": "A word that a program can match; `failed` if absent. Cut at 128 bytes"},
                        "message": {"type": "string", "description": "A sentence for people. Cut at 8 KiB of JSON, and then it ends with … (cut)"},
                    })),
                ]},
                "retry": {"type": "boolean", "description": "false: no further attempt will help. true if absent"},
                "retry_after": pause("The pause before the next attempt, instead of the back-off; not with retry: false"),
            }),
        ),
        (
            "release",
            "No attempt was made: the message goes back to the head of the line",
            json!({"delay": pause("It comes back then")}),
        ),
        (
            "extend",
            "The lease lasts longer",
            json!({
                "visibility_timeout": duration("For how long from now; the queue's if absent", LeaseTime::LEAST, LeaseTime::MOST),
                "progress": any("How far it is"),
            }),
        ),
    ]
}

pub(super) fn schemas(max_wait: Millis) -> Value {
    let mut schemas = Map::new();
    let mut receive = request_or_null(
        "What to receive",
        &[],
        json!({
            "max": {"type": "integer", "minimum": 1, "maximum": MAX_MESSAGES_PER_CALL, "description": "How many messages at most; 1 if absent"},
            "wait": duration("How long to wait for the first; not at all if absent", Millis::ZERO, max_wait),
            "visibility_timeout": duration("How long the leases last; the queue's if absent", LeaseTime::LEAST, LeaseTime::MOST),
            "consumer": {"type": "string", "pattern": CONSUMER, "examples": ["c-03e14db4f7f6"],
                         "description": "Who receives: an id that an earlier answer named. A new one if absent"},
        }),
    );
    receive["examples"] = json!([{"max": 10, "visibility_timeout": "30s"}]);
    schemas.insert("Receive".into(), receive);
    let mut many = Vec::new();
    for (action, description, fields) in actions() {
        let mut name = action.to_owned();
        name[..1].make_ascii_uppercase();
        let one = taking_lease(description, &["lease"], fields.clone());
        let mut with_action = taking_lease(description, &["lease", "action"], fields);
        with_action["properties"]["action"] = json!({"const": action});
        schemas.insert(name.clone(), one);
        schemas.insert(format!("{name}Settlement"), with_action);
        many.push(of(&format!("{name}Settlement")));
    }
    let settlements =
        json!({"type": "array", "minItems": 1, "maxItems": MAX_MESSAGES_PER_CALL, "items": {"anyOf": many}});
    let mut settle = request(
        "Leases to be ended or extended, each on its own",
        &["settlements"],
        json!({"settlements": settlements}),
    );
    settle["examples"] = json!([{"settlements": [{"lease": EXAMPLE, "action": "complete", "result": 1}]}]);
    schemas.insert("Settle".into(), settle);
    schemas.extend(answers());
    schemas.into()
}

fn taking_lease(description: &str, required: &[&str], mut fields: Value) -> Value {
    fields["lease"] = of("Lease");
    let fails = fields.get("retry").is_some();
    let mut schema = request_or_null(description, required, fields);
    if fails {
        schema["not"] = not_both([("retry", json!({"const": false})), ("retry_after", given())]);
    }
    schema
}

fn answers() -> Map<String, Value> {
    let outcomes = |more: &[&'static str]| {
        State::ALL.iter().map(|state| state.as_str()).chain(more.iter().copied()).collect::<Vec<_>>()
    };
    let ended = |outcomes: Vec<&str>| {
        json!({
            "type": "object",
            "required": ["lease", "outcome"],
            "properties": {
                "lease": of("Lease"),
                "outcome": {"type": "string", "enum": outcomes, "description": "The state that the message is in now, or extended, or gone"},
                "lease_expires_at": {"allOf": [of("Instant")], "description": "Only there when it was extended"},
                "cancel_requested": {"const": true, "description": "Only there when somebody cancelled the message: stop, and settle it"},
            },
        })
    };
    let leased = json!({
        "allOf": [of("Message")],
        "required": ["lease", "lease_expires_at", "timeout"],
        "properties": {
            "lease": of("Lease"),
            "lease_expires_at": of("Instant"),
            "timeout": {"type": ["integer", "null"], "minimum": 1, "description": "How long this run may take, in milliseconds"},
        },
        "description": "A message with the right to work on it",
    });
    [
        ("Lease", json!({"type": "string", "pattern": LEASE, "examples": [EXAMPLE], "description": "The token that the lease was answered with"})),
        ("LeasedMessage", leased),
        ("Received", answer("Messages with their leases; none when the wait is over", json!({
            "consumer": {"type": "string"},
            "messages": {"type": "array", "maxItems": MAX_MESSAGES_PER_CALL, "items": of("LeasedMessage")},
        }))),
        ("Ended", ended(outcomes(&["extended"]))),
        ("EndedOrGone", ended(outcomes(&["extended", "gone"]))),
        ("EndedAll", answer("What became of each, in the order given", json!({
            "settlements": {"type": "array", "items": of("EndedOrGone")},
        }))),
    ]
    .into_iter()
    .map(|(name, schema)| (name.to_owned(), schema))
    .collect()
}
