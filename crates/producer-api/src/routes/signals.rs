//! The endpoints that send a signal, which releases held messages, and that read, list and forget sticky signals.

use axum::{Json, http::StatusCode, response::Response};
use queue_core::{QueueName, Signal, SignalKey, Signalled};
use service::{Code, Problem, config::Scope};
use utoipa_axum::routes;

use super::registry::Routes;
use crate::{
    api::{
        json, limit_or,
        signal::{Released, SignalPage, SignalQuery, StickySignal, decode_cursor, encode_cursor},
    },
    auth::endpoint::RequiredScope,
    errors::{self, Result},
    request::{NoQuery, OptionalJsonBody, Query, QueuePath, SignalPath},
    response::Responder,
};

pub(super) fn register(routes: Routes) -> Routes {
    // Sending a signal needs the scope of producers, because a signal releases held messages and gives data to them. Forgetting
    // a sticky signal needs the same scope, because sending the signal again with a `sticky_for` of one millisecond has the
    // same effect.
    const SEND_SCOPE: RequiredScope = RequiredScope::OnQueue(Scope::Enqueue);
    const READ_SCOPE: RequiredScope = RequiredScope::OnQueue(Scope::Read);
    routes
        .tag("messages")
        .add_unlimited(SEND_SCOPE, &[Code::InvalidSignal, Code::ForeignOrigin], routes!(send_signal))
        .add(READ_SCOPE, &[Code::SignalNotFound], routes!(read_signal))
        .add(SEND_SCOPE, &[Code::SignalNotFound], routes!(forget_signal))
        .add(READ_SCOPE, &[Code::QueueNotFound, Code::CursorNotFound], routes!(list_signals))
}

const DEFAULT_PAGE_SIZE: usize = 50;

/// Send a signal
///
/// Messages that are held for the key become waiting, or delayed if they are not due yet.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/signals/{key}",
    request_body(content = Option<Signal>, description = "The body may be absent"),
    responses((status = 200, description = "The signal is sent", body = Released)),
)]
async fn send_signal(
    SignalPath { app, queue, key }: SignalPath,
    _: NoQuery,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<Released>> {
    let signal = body.map_or_else(|| Ok(Signal::default()), |body| json::parse_body(&body))?;
    // A sticky signal applies to later messages, so it creates the queue; any other signal has no effect if the queue does
    // not exist.
    if signal.sticky_for.is_none() && queue.status().await.map_err(errors::queue_error)?.is_none() {
        return Ok(Json(Signalled::default().into()));
    }
    let signalled = app.run_to_end(async move { queue.signal(&key, &signal).await }).await?;
    signalled.map(|signalled| Json(signalled.into())).map_err(errors::queue_error)
}

/// Read a sticky signal
#[utoipa::path(
    get, path = "/v1/queues/{queue}/signals/{key}",
    responses((status = 200, description = "The sticky signal", body = StickySignal)),
)]
async fn read_signal(path: SignalPath, _: NoQuery, responder: Responder) -> Result<Response> {
    let SignalPath { queue, key, .. } = path;
    let signal = queue.sticky_signal(&key).await.map_err(errors::queue_error)?;
    let Some(signal) = signal else { return Err(signal_not_found(queue.name(), &key)) };
    responder
        .respond_to_read(&StickySignal { key, data: signal.data, sticky_until: signal.until, held: signal.held }, 0)
}

/// Forget a sticky signal
///
/// Messages that are posted after the signal is forgotten are held again; released messages stay released.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}/signals/{key}",
    responses((status = 204, description = "The signal is forgotten")),
)]
async fn forget_signal(SignalPath { queue, key, .. }: SignalPath, _: NoQuery) -> Result<StatusCode> {
    let had_existed = queue.forget_signal(&key).await.map_err(errors::queue_error)?;
    if had_existed { Ok(StatusCode::NO_CONTENT) } else { Err(signal_not_found(queue.name(), &key)) }
}

/// List sticky signals
///
/// Lists sticky signals page by page. The signal that ends first comes first.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/signals", responses((status = 200, description = "A page of the list", body = SignalPage)),
    params(SignalQuery),
)]
async fn list_signals(
    QueuePath { queue, .. }: QueuePath,
    Query(SignalQuery { limit, cursor }): Query<SignalQuery>,
    responder: Responder,
) -> Result<Response> {
    let after_signal = cursor.map(|cursor| decode_cursor(&cursor).ok_or(errors::INVALID_CURSOR)).transpose()?;
    let limit = limit_or(DEFAULT_PAGE_SIZE, limit);
    let memory_for_response = responder.reserve(limit)?;
    let page = queue.sticky_signals(after_signal.as_ref().map(|(until, key)| (*until, key)), limit).await;
    let (signals, has_more) = page.map_err(errors::queue_error)?;
    if signals.is_empty() && after_signal.is_none() && queue.status().await.map_err(errors::queue_error)?.is_none() {
        return Err(errors::queue_not_found(queue.name()));
    }
    let next_cursor = signals.last().filter(|_| has_more).map(|last| encode_cursor(last.until, &last.key));
    let signals = signals.into_iter().map(|signal| StickySignal {
        key: signal.key,
        data: signal.data,
        sticky_until: signal.until,
        held: signal.held,
    });
    memory_for_response.json_response(&SignalPage { signals: signals.collect(), next_cursor })
}

fn signal_not_found(queue: &QueueName, key: &SignalKey) -> Problem {
    let detail = format!(
        "queue {queue} has no sticky signal of the key {key}: none was sent with sticky_for, its time is over, or it was forgotten; \
         GET /v1/queues/{queue}/signals lists the sticky signals"
    );
    Problem::new(Code::SignalNotFound, detail)
}
