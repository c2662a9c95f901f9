use queue_core::{Millis, Signal};
use serde_json::{Value, json};

use super::{answer, count, request_or_null};
use crate::openapi::ranges::duration;

pub(super) fn schemas() -> Value {
    let mut signal = request_or_null(
        "A signal",
        &[],
        json!({
            "data": {"description": format!("What the released messages show as their signal: any JSON up to {} bytes", Signal::MAX_BYTES)},
            "sticky_for": duration("For how long messages that are posted later pass at once", Millis::new(1), Signal::LONGEST_STICKY),
        }),
    );
    signal["examples"] = json!([{"data": {"amount": 12}, "sticky_for": "1h"}]);
    json!({
        "Signal": signal,
        "Released": answer("What a signal did", json!({"released": count("Messages that were held for the key")})),
    })
}
