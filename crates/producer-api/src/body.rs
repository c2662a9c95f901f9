//! Bodies of requests, received within the limits of size and time.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use service::Problem;
use tokio::time::timeout;

use crate::{App, refusal};

/// A body that says that it is JSON. Whether it is, the parser tells.
pub(crate) struct JsonBody(pub(crate) Bytes);

impl FromRequest<App> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(refusal::not_json_content());
        }
        receive(request, app).await.map(Self)
    }
}

/// As [`JsonBody`], but it may be missing.
pub(crate) struct OptionalJsonBody(pub(crate) Option<Bytes>);

impl FromRequest<App> for OptionalJsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        refuse_foreign_pages(request.headers(), app)?;
        let is_json = is_json(request.headers());
        let body = receive(request, app).await?;
        match (body.trim_ascii().is_empty(), is_json) {
            (true, _) => Ok(Self(None)),
            (false, true) => Ok(Self(Some(body))),
            (false, false) => Err(refusal::not_json_content()),
        }
    }
}

/// No body, or an empty object as some clients send it: what nobody reads is a mistake.
pub(crate) struct NoBody;

impl FromRequest<App> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        refuse_foreign_pages(request.headers(), app)?;
        match receive(request, app).await?.trim_ascii() {
            b"" | b"{}" => Ok(Self),
            _ => Err(refusal::unexpected_body()),
        }
    }
}

/// Messages in one JSON object, or one message a line.
pub(crate) enum BatchBody {
    Json(Bytes),
    Lines(Body),
}

impl FromRequest<App> for BatchBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        if is_json(request.headers()) {
            return receive(request, app).await.map(Self::Json);
        }
        match media_type(request.headers()).as_deref() {
            Some("application/x-ndjson") => Ok(Self::Lines(request.into_body())),
            _ => Err(refusal::not_batch_content()),
        }
    }
}

/// A browser lets any page send a request without a body and without asking first; where there are no keys, that would
/// be enough to purge a queue. Clients that are no browsers name no origin.
fn refuse_foreign_pages(headers: &HeaderMap, app: &App) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let is_configured = app.shared.cors_origins.iter().any(|known| known.as_header() == origin);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let is_own = own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host));
    if is_configured || is_own { Ok(()) } else { Err(refusal::foreign_page()) }
}

async fn receive(request: Request, app: &App) -> Result<Bytes, Problem> {
    // Before anything of it is asked for: a client that sends `expect: 100-continue` need not send it.
    if request.body().size_hint().lower() > app.shared.body_limit as u64 {
        return Err(refusal::body_too_large(app.shared.body_limit));
    }
    let limit = app.shared.request_timeout;
    let received = timeout(limit.to_std(), Bytes::from_request(request, app)).await;
    let body = received.map_err(|_| refusal::body_too_slow(limit))?;
    body.map_err(|rejection: BytesRejection| match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => refusal::body_too_large(app.shared.body_limit),
        _ => refusal::body_not_received(),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|media_type| {
        media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
    })
}

/// The content type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
}
