//! Signals: what releases held messages.

use axum::{Json, extract::State};
use queue_core::Signal;
use serde::Serialize;
use service::{Code, Problem, config::Scope, unknown};
use utoipa_axum::routes;

use super::{
    KeyPath, NoQuery, QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    body::OptionalJsonBody,
    fields::{Reader, field_error},
    json::{self, is_absent},
    refusal,
};

pub(super) fn register(routes: Routes) -> Routes {
    // It lets go on what a producer has posted, with data of the producer's; so it is a part of posting.
    let needs = Needs::OnQueue(Scope::Enqueue);
    routes.add(needs, Limit::OfSteps, &[Code::InvalidSignal, Code::ForeignOrigin], routes!(send))
}

/// What a signal answers.
#[derive(Serialize)]
pub(crate) struct Released {
    released: u64,
}

/// Send a signal
///
/// Messages that are held for the key become waiting, or delayed if they are not due yet.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/signals/{key}",
    operation_id = "send_signal",
    tag = "messages",
    request_body(content = ref("Signal"), description = "It may be absent", content_type = "application/json"),
    responses((status = 200, description = "It is sent", body = ref("Released"), content_type = "application/json")),
    extensions(("x-body-is-optional" = json!(true))),
)]
pub(crate) async fn send(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    KeyPath(key): KeyPath,
    _: NoQuery,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<Released>, Problem> {
    let signal = body.map_or_else(|| Ok(Signal::default()), |body| parse(&body))?;
    let queue = app.shared.queues.queue(&name);
    // One that sticks is for messages to come, and the queue begins with it; another one is for nobody here.
    if signal.sticky_for.is_none() && queue.status().await.map_err(refusal::from_queue)?.is_none() {
        return Ok(Json(Released { released: 0 }));
    }
    let released = app.see_through(async move { queue.signal(&key, &signal).await }).await?;
    released.map(|released| Json(Released { released })).map_err(refusal::from_queue)
}

fn parse(body: &[u8]) -> Result<Signal, Problem> {
    let object = json::object(body)?;
    let mut signal = Signal::default();
    let mut errors = Vec::new();
    for (name, value) in &object.0 {
        match name.as_ref() {
            "data" if value.get().len() > Signal::MAX_BYTES => {
                errors.push(field_error("", name, "must be at most 4096 bytes of JSON".into()));
            }
            "data" => signal.data = (!is_absent(value)).then(|| (*value).to_owned()),
            "sticky_for" => {
                let mut reader = Reader { pointer: "", name, value, errors: &mut errors };
                signal.sticky_for = reader.read_duration(Signal::LONGEST_STICKY, "must be 1 ms to 30 days");
            }
            other => errors.push(field_error("", other, unknown(other, ["data", "sticky_for"]))),
        }
    }
    if errors.is_empty() { Ok(signal) } else { Err(refusal::invalid_signal(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_field_by_field() {
        let signal = parse(br#"{"data": {"paid": [] }, "sticky_for": "30d"}"#).unwrap();
        assert_eq!(signal.data.unwrap().get(), r#"{"paid": [] }"#);
        assert_eq!(signal.sticky_for, Some(Signal::LONGEST_STICKY));
        for none in [&b"{}"[..], br#"{"data":null,"sticky_for":null}"#] {
            let signal = parse(none).unwrap();
            assert!(signal.data.is_none() && signal.sticky_for.is_none());
        }
        let long = format!(r#"{{"data":"{}"}}"#, "x".repeat(4_095));
        for (body, pointer) in [
            (long.as_str(), "/data"),
            (r#"{"sticky_for":0}"#, "/sticky_for"),
            (r#"{"sticky_for":"31d"}"#, "/sticky_for"),
            (r#"{"stick_for":1}"#, "/stick_for"),
        ] {
            let problem = parse(body.as_bytes()).unwrap_err();
            assert_eq!((problem.code(), problem.errors()[0].pointer.as_str()), (service::Code::InvalidSignal, pointer));
        }
        assert_eq!(parse(b"[]").unwrap_err().code(), service::Code::InvalidJson);
    }
}
