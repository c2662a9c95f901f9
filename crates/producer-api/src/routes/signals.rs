//! Signals: what releases held messages.

use axum::{Json, extract::State};
use queue_core::Signal;
use serde::Serialize;
use service::{Code, Problem, config::Scope};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::{
    KeyPath, QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    api::{
        query::NoQuery,
        reading::{self, Body},
    },
    body::OptionalJsonBody,
    refusal,
};

pub(super) fn register(routes: Routes) -> Routes {
    // It lets go on what a producer has posted, with data of the producer's; so it is a part of posting.
    let needs = Needs::OnQueue(Scope::Enqueue);
    routes.add(needs, Limit::OfSteps, &[Code::InvalidSignal, Code::ForeignOrigin], routes!(send))
}

/// What a signal did.
#[derive(Serialize, ToSchema)]
pub(crate) struct Released {
    /// Messages that were held for the key.
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
    request_body(content = Option<Signal>, description = "It may be absent"),
    responses((status = 200, description = "It is sent", body = Released)),
)]
pub(crate) async fn send(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    KeyPath(key): KeyPath,
    _: NoQuery,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<Released>, Problem> {
    let signal = body.map_or_else(|| Ok(Signal::default()), |body| reading::body(&body))?;
    let queue = app.shared.queues.queue(&name);
    // One that sticks is for messages to come, and the queue begins with it; another one is for nobody here.
    if signal.sticky_for.is_none() && queue.status().await.map_err(refusal::from_queue)?.is_none() {
        return Ok(Json(Released { released: 0 }));
    }
    let released = app.see_through(async move { queue.signal(&key, &signal).await }).await?;
    released.map(|released| Json(Released { released })).map_err(refusal::from_queue)
}

impl Body for Signal {
    const INVALID: Code = Code::InvalidSignal;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_is_read_field_by_field() {
        let read = |json: &str| reading::body::<Signal>(json.as_bytes());
        let signal = read(r#"{"data": {"paid": [] }, "sticky_for": "30d"}"#).unwrap();
        assert_eq!(signal.data.unwrap().get(), r#"{"paid": [] }"#);
        assert_eq!(signal.sticky_for.unwrap().to_string(), "30d");
        for none in ["{}", r#"{"data":null,"sticky_for":null}"#] {
            let signal = read(none).unwrap();
            assert!(signal.data.is_none() && signal.sticky_for.is_none());
        }
        let long = format!(r#"{{"data":"{}"}}"#, "x".repeat(4_095));
        for (body, pointer) in [
            (long.as_str(), "/data"),
            (r#"{"sticky_for":0}"#, "/sticky_for"),
            (r#"{"sticky_for":"31d"}"#, "/sticky_for"),
            (r#"{"stick_for":1}"#, "/stick_for"),
        ] {
            let problem = read(body).unwrap_err();
            assert_eq!((problem.code(), problem.errors()[0].pointer.as_str()), (Code::InvalidSignal, pointer));
        }
        assert_eq!(read("[]").unwrap_err().code(), Code::InvalidJson);
    }
}
