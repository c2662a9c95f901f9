//! Bodies of requests, received within the limits of size and time.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, header},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
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
        match media_type(request.headers()) {
            Some(media_type) if media_type.eq_ignore_ascii_case("application/x-ndjson") => {
                refuse_encoded(request.headers())?;
                Ok(Self::Lines(request.into_body()))
            }
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

/// Bodies are taken as they are: what is compressed would be told to be no JSON.
fn refuse_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    let is_plain = |encoding: &HeaderValue| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) { Ok(()) } else { Err(refusal::encoded_body()) }
}

async fn receive(request: Request, app: &App) -> Result<Bytes, Problem> {
    refuse_encoded(request.headers())?;
    // Before anything of it is asked for: a client that sends `expect: 100-continue` need not send it.
    let (limit, time_limit) = (app.shared.body_limit, app.shared.request_timeout);
    if request.body().size_hint().lower() > limit as u64 {
        return Err(refusal::body_too_large(limit));
    }
    let body = Limited::new(request.into_body(), limit);
    match timeout(time_limit.to_std(), body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(refusal::body_too_large(limit)),
        Ok(Err(_)) => Err(refusal::body_not_received()),
        Err(_) => Err(refusal::body_too_slow(time_limit)),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    // As nearly all say it.
    if headers.get(header::CONTENT_TYPE).is_some_and(|content_type| content_type == "application/json") {
        return true;
    }
    media_type(headers).and_then(|media_type| media_type.split_once('/')).is_some_and(|(class, kind)| {
        let suffix = kind.rsplit_once('+').map(|(_, suffix)| suffix);
        class.eq_ignore_ascii_case("application") && suffix.unwrap_or(kind).eq_ignore_ascii_case("json")
    })
}

/// The content type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<&str> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(content_type.split(';').next().unwrap_or("").trim())
}
