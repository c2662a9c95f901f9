//! Signals: what releases held messages. They are sent; those that stick are read, listed and forgotten.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use queue_core::{MostMessages, QueueName, Signal, SignalKey, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use service::{Code, Problem, config::Scope};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::{
    KeyPath, QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    answer::AnswerMemory,
    api::{
        query::{self, NoQuery, Query},
        reading::{self, Body},
    },
    body::OptionalJsonBody,
    refusal,
};

pub(super) fn register(routes: Routes) -> Routes {
    // It lets go on what a producer has posted, with data of the producer's; so it is a part of posting. To forget one that sticks
    // does no more than to send it again for a millisecond.
    let sending = Needs::OnQueue(Scope::Enqueue);
    let reading = Needs::OnQueue(Scope::Read);
    routes
        .add(sending, Limit::OfSteps, &[Code::InvalidSignal, Code::ForeignOrigin], routes!(send))
        .add(reading, Limit::OfRequest, &[Code::SignalNotFound], routes!(show))
        .add(sending, Limit::OfRequest, &[Code::SignalNotFound], routes!(forget))
        .add(reading, Limit::OfRequest, &[Code::QueueNotFound, Code::CursorNotFound], routes!(list))
}

const DEFAULT_LIMIT: usize = 50;

/// What a signal did.
#[derive(Serialize, ToSchema)]
pub(crate) struct Released {
    /// Messages that were held for the key.
    released: u64,
}

/// A signal that sticks.
#[derive(Serialize, ToSchema)]
pub(crate) struct StickySignal {
    /// The key of the messages that pass.
    #[schema(inline)]
    key: SignalKey,
    /// What messages that pass show as their signal.
    #[schema(required, value_type = Value)]
    data: Option<Box<RawValue>>,
    /// Until when messages that are posted pass.
    sticky_until: Timestamp,
    /// Messages that were held for the key before, and are still to be released.
    held: u64,
}

/// A page of signals that stick.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignalPage {
    signals: Vec<StickySignal>,
    /// Where the list goes on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

/// Which signals to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// How many at most; 50 if absent.
    #[serde(default, deserialize_with = "query::text")]
    #[param(inline)]
    limit: Option<MostMessages>,
    /// The `next_cursor` of the page before.
    #[serde(default, deserialize_with = "query::text")]
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
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

/// Read a signal that sticks
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}/signals/{key}",
    operation_id = "read_signal",
    tag = "messages",
    responses((status = 200, description = "It sticks", body = StickySignal)),
)]
pub(crate) async fn show(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    KeyPath(key): KeyPath,
    _: NoQuery,
    memory: AnswerMemory,
) -> Result<Response, Problem> {
    let signal = app.shared.queues.queue(&name).sticky_signal(&key).await.map_err(refusal::from_queue)?;
    let Some(signal) = signal else { return Err(not_found(&name, &key)) };
    memory.read(&StickySignal { key, data: signal.data, sticky_until: signal.until, held: signal.held }, 0)
}

/// Forget a signal that sticks
///
/// Messages that are posted later are held again; what it has released stays released.
#[utoipa::path(
    delete,
    path = "/v1/queues/{queue}/signals/{key}",
    operation_id = "forget_signal",
    tag = "messages",
    responses((status = 204, description = "It is forgotten")),
)]
pub(crate) async fn forget(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    KeyPath(key): KeyPath,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let stuck = app.shared.queues.queue(&name).forget_signal(&key).await.map_err(refusal::from_queue)?;
    if stuck { Ok(StatusCode::NO_CONTENT) } else { Err(not_found(&name, &key)) }
}

/// List signals that stick
///
/// The first to end first; page by page.
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}/signals",
    operation_id = "list_signals",
    tag = "messages",
    responses((status = 200, description = "A page", body = SignalPage)),
    params(Listing),
)]
pub(crate) async fn list(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    Query(Listing { limit, cursor }): Query<Listing>,
    memory: AnswerMemory,
) -> Result<Response, Problem> {
    let behind = cursor.map(|cursor| decode(&cursor).ok_or_else(refusal::invalid_cursor)).transpose()?;
    let queue = app.shared.queues.queue(&name);
    let limit = limit.map_or(DEFAULT_LIMIT, MostMessages::get);
    let reserved = memory.reserve(limit)?;
    let page = queue.sticky_signals(behind.as_ref().map(|(until, key)| (*until, key)), limit).await;
    let (signals, are_more) = page.map_err(refusal::from_queue)?;
    if signals.is_empty() && behind.is_none() && queue.status().await.map_err(refusal::from_queue)?.is_none() {
        return Err(refusal::queue_not_found(&name));
    }
    let next_cursor = signals.last().filter(|_| are_more).map(|last| encode(last.until, &last.key));
    let signals = signals.into_iter().map(|signal| StickySignal {
        key: signal.key,
        data: signal.data,
        sticky_until: signal.until,
        held: signal.held,
    });
    reserved.json(&SignalPage { signals: signals.collect(), next_cursor })
}

fn not_found(queue: &QueueName, key: &SignalKey) -> Problem {
    let detail = format!(
        "no signal of the key {key} sticks in queue {queue}: none was sent with sticky_for, its time is over, or it was forgotten; \
         GET /v1/queues/{queue}/signals lists those that stick"
    );
    Problem::new(Code::SignalNotFound, detail)
}

/// A cursor is the end and the key of the last signal of its page, as opaque text.
fn encode(until: Timestamp, key: &SignalKey) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{key}", until.as_millis()))
}

fn decode(cursor: &str) -> Option<(Timestamp, SignalKey)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (until, key) = text.split_once(':')?;
    let until = until.parse().ok().map(Timestamp::from_millis).filter(|until| *until < Timestamp::LIMIT)?;
    Some((until, key.parse().ok()?))
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

    #[test]
    fn cursor_reads_back_and_another_text_is_none() {
        let (until, key) = (Timestamp::from_millis(1_795_424_400_000), "a:b ä".parse().unwrap());
        assert_eq!(decode(&encode(until, &key)), Some((until, key)));
        for other in ["", "!", "AAAA", &URL_SAFE_NO_PAD.encode("5:a/b"), &URL_SAFE_NO_PAD.encode("x:a")] {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
