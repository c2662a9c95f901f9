//! Bodies of requests, received within limits of size, time and memory.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, header},
};
use http_body_util::BodyExt;
use service::Problem;
use tokio::time::timeout;

use crate::{
    app::App,
    auth::caller::Caller,
    budget::{BudgetExceeded, Share},
    errors::{self, Result},
};

/// The size in bytes up to which a body does not count towards the memory budget, because the body fits into the connection's
/// read buffer.
const MAX_BYTES_OUTSIDE_MEMORY_BUDGET: usize = 8 * 1024;

/// A body with a JSON content type.
pub(crate) struct JsonBody(pub(crate) Bytes);

impl FromRequest<App> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        if !is_json(request.headers()) {
            return Err(errors::NOT_JSON_CONTENT.into());
        }
        receive_body(request, app).await.map(Self)
    }
}

/// A body with a JSON content type, or no body.
pub(crate) struct OptionalJsonBody(pub(crate) Option<Bytes>);

impl FromRequest<App> for OptionalJsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        refuse_cross_origin(request.headers(), app)?;
        let is_json = is_json(request.headers());
        let body = receive_body(request, app).await?;
        match (body.trim_ascii().is_empty(), is_json) {
            (true, _) => Ok(Self(None)),
            (false, true) => Ok(Self(Some(body))),
            (false, false) => Err(errors::NOT_JSON_CONTENT.into()),
        }
    }
}

/// The extractor of operations without a body: it accepts no body, or an empty JSON object, which some clients send
/// instead, and refuses any other body.
pub(crate) struct NoBody;

impl FromRequest<App> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        refuse_cross_origin(request.headers(), app)?;
        match receive_body(request, app).await?.trim_ascii() {
            b"" | b"{}" => Ok(Self),
            _ => Err(errors::UNEXPECTED_BODY.into()),
        }
    }
}

/// The body of a batch: one JSON object with all messages, or NDJSON with one message per line.
pub(crate) enum BatchBody {
    Json(Bytes),
    /// The NDJSON body, and a share of the memory budget for bodies, which is empty until lines are read.
    Lines(Body, Share),
}

impl FromRequest<App> for BatchBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        if is_json(request.headers()) {
            return receive_body(request, app).await.map(Self::Json);
        }
        match media_type(request.headers()) {
            Some(media_type) if media_type.eq_ignore_ascii_case("application/x-ndjson") => {
                refuse_encoded(request.headers())?;
                let share = app.body_memory.take(Caller::from_extensions(request.extensions()).client(), 0);
                Ok(Self::Lines(request.into_body(), share.map_err(errors::no_memory_for_body)?))
            }
            _ => Err(errors::NOT_BATCH_CONTENT.into()),
        }
    }
}

/// Refuses a request from a page of another origin. A browser lets any web page send a request without a body to any server. If
/// the API has no keys, and did not check the header `Origin`, a foreign web page could purge a queue. Only browsers send the
/// header `Origin`.
fn refuse_cross_origin(headers: &HeaderMap, app: &App) -> Result<()> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let is_configured = app.limits.cors_origins.iter().any(|known| known.as_header() == origin);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin_host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let is_same_host = origin_host.zip(host).is_some_and(|(origin_host, host)| origin_host.eq_ignore_ascii_case(host));
    if is_configured || is_same_host { Ok(()) } else { Err(errors::CROSS_ORIGIN.into()) }
}

/// Refuses a compressed body with a specific error, because the JSON parser would only report invalid JSON.
fn refuse_encoded(headers: &HeaderMap) -> Result<()> {
    let is_unencoded = |encoding: &HeaderValue| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(is_unencoded) {
        Ok(())
    } else {
        Err(errors::ENCODED_BODY.into())
    }
}

async fn receive_body(request: Request, app: &App) -> Result<Bytes> {
    refuse_encoded(request.headers())?;
    // The size is checked before the body is read, so that a client with `expect: 100-continue` does not send the body.
    let (limit, time_limit) = (app.limits.body_limit, *app.limits.request_timeout);
    let (parts, body) = request.into_parts();
    let body_size = body.size_hint();
    if body_size.lower() > limit as u64 {
        return Err(errors::body_too_large(limit));
    }
    let take_share = || app.body_memory.take(Caller::from_extensions(&parts.extensions).client(), 0);
    let declared_bytes = body_size.exact().and_then(|bytes| usize::try_from(bytes).ok());
    let mut received_body = ReceivedBody { bytes: Vec::new(), share: None };
    received_body.take_from_memory_budget(declared_bytes.unwrap_or(0), take_share)?;
    match timeout(time_limit.to_std(), received_body.collect(body, declared_bytes, limit, take_share)).await {
        Ok(received_body) => received_body,
        Err(_) => Err(errors::body_too_slow(time_limit)),
    }
}

/// Returns how many bytes of a body of `bytes` bytes count towards the memory budget: 0 for a small body, else all.
pub(crate) fn bytes_in_memory_budget(bytes: usize) -> usize {
    if bytes > MAX_BYTES_OUTSIDE_MEMORY_BUDGET { bytes } else { 0 }
}

/// The received part of a body. The received part of a body is copied out of the connection's buffers, because a buffer may
/// be much larger than the piece of the body in it.
struct ReceivedBody {
    bytes: Vec<u8>,
    /// The share of the memory budget that the body takes; `None` while the body is too small to count.
    share: Option<Share>,
}

impl ReceivedBody {
    fn take_from_memory_budget(
        &mut self,
        bytes: usize,
        take_share: impl Fn() -> Result<Share, BudgetExceeded>,
    ) -> Result<()> {
        if bytes_in_memory_budget(bytes) == 0 {
            return Ok(());
        }
        let take_result = take_share().and_then(|share| self.share.get_or_insert(share).resize(bytes));
        take_result.map_err(errors::no_memory_for_body)
    }

    /// Receives the whole body. The memory of the body returns to the budget when the last reference to its bytes is dropped.
    async fn collect(
        mut self,
        mut body: Body,
        declared_bytes: Option<usize>,
        limit: usize,
        take_share: impl Fn() -> Result<Share, BudgetExceeded>,
    ) -> Result<Bytes> {
        while !body.is_end_stream() {
            let frame = match body.frame().await {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Err(errors::BODY_NOT_RECEIVED.into()),
            };
            let Ok(data) = frame.into_data() else { continue };
            // Most bodies arrive in one frame, which is returned without a copy.
            if declared_bytes == Some(data.len()) && self.share.is_none() {
                return Ok(data);
            }
            let length = self.bytes.len() + data.len();
            if length > limit {
                return Err(errors::body_too_large(limit));
            }
            if length > self.bytes.capacity() {
                let capacity = declared_bytes
                    .unwrap_or_else(|| length.max(MAX_BYTES_OUTSIDE_MEMORY_BUDGET).next_power_of_two().min(limit));
                self.take_from_memory_budget(capacity, &take_share)?;
                self.bytes.reserve_exact(capacity - self.bytes.len());
            }
            self.bytes.extend_from_slice(&data);
        }
        Ok(if self.share.is_some() { Bytes::from_owner(self) } else { self.bytes.into() })
    }
}

impl AsRef<[u8]> for ReceivedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    // Nearly all clients send exactly `application/json`, so this value is compared first.
    if headers.get(header::CONTENT_TYPE).is_some_and(|content_type| content_type == "application/json") {
        return true;
    }
    media_type(headers).and_then(|media_type| media_type.split_once('/')).is_some_and(|(main_type, subtype)| {
        let format_suffix = subtype.rsplit_once('+').map(|(_, format_suffix)| format_suffix);
        main_type.eq_ignore_ascii_case("application") && format_suffix.unwrap_or(subtype).eq_ignore_ascii_case("json")
    })
}

fn media_type(headers: &HeaderMap) -> Option<&str> {
    let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(content_type.split(';').next().unwrap_or("").trim())
}
