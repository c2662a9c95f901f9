//! Converts the answers of the real queue to the JSON of the model.

use queue_core::{Changed, Enqueued, Extended, Leased, Message, State, Timestamp};
use serde_json::{Value, json, value::RawValue};

pub(crate) fn show_message(message: &Message) -> Value {
    let json_text = |raw: &Option<Box<RawValue>>| raw.as_ref().map(|raw| raw.get().to_owned());
    let all_errors = message.earlier_errors.iter().chain(&message.error).map(|error| {
        let json = format!(r#"{{"code":"{}","message":"{}"}}"#, error.code, error.message);
        json!({"attempt": error.attempt, "at": error.at.as_millis(), "json": json})
    });
    json!({
        "id": message.id.as_str(),
        "name": message.name,
        "group": message.group,
        "state": message.state,
        "data": message.data.get(),
        "priority": message.priority,
        "delay": message.delay,
        "max_attempts": message.max_attempts,
        "attempts_made": message.attempts_made,
        "deliveries": message.deliveries,
        "lapses": message.lapses,
        "created": message.created_at.as_millis(),
        "due": message.due_at.as_millis(),
        "started": message.started_at.map(Timestamp::as_millis),
        "finished": message.finished_at.map(Timestamp::as_millis),
        "expires": message.expires_at.map(Timestamp::as_millis),
        "hold": message.hold,
        "signal": json_text(&message.signal),
        "consumer": message.consumer,
        "progress": json_text(&message.progress),
        "result": json_text(&message.result),
        "has_error": message.error.is_some(),
        "errors": all_errors.collect::<Vec<_>>(),
        "schedule": message.schedule,
        "scheduled": message.scheduled_at.map(Timestamp::as_millis),
    })
}

pub(crate) fn show_enqueued(enqueued: &Enqueued) -> Value {
    match enqueued {
        Enqueued::Created(message) => json!({"created": show_message(message)}),
        Enqueued::Duplicate(id, state) => json!({"duplicate": id.as_str(), "state": state}),
        Enqueued::Forgotten(id) => json!({"forgotten": id.as_str()}),
    }
}

pub(crate) fn show_leased(leased: &Leased) -> Value {
    let deliveries = leased.deliveries.iter().map(|delivery| {
        json!({
            "message": show_message(&delivery.message),
            "until": delivery.lease_expires_at.as_millis(),
            "timeout": delivery.timeout,
            "ready": delivery.ready_at.as_millis(),
        })
    });
    json!({
        "leased": {
            "deliveries": deliveries.collect::<Vec<_>>(),
            "visibility_timeout": leased.visibility_timeout,
            "more": leased.more_is_ready,
            "alone": leased.goes_alone,
            "ahead": leased.permits_ahead,
        },
        "call_again_in": leased.call_again_in.map(|pause| pause.as_micros()),
    })
}

pub(crate) fn show_settled(settled: Option<State>) -> Value {
    match settled {
        Some(state) => json!(state),
        None => json!("gone"),
    }
}

pub(crate) fn show_extended(extended: Extended) -> Value {
    match extended {
        Extended::Until(instant) => json!({"until": instant.as_millis(), "cancel": false}),
        Extended::ToBeCancelled(instant) => json!({"until": instant.as_millis(), "cancel": true}),
        Extended::LeaseOver => json!("gone"),
    }
}

pub(crate) fn show_changed(changed: Changed) -> Value {
    match changed {
        Changed::Done => json!("done"),
        Changed::Requested => json!("requested"),
        Changed::Refused(state) => json!({"refused": state}),
        Changed::Unknown => json!("unknown"),
    }
}
