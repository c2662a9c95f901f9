//! Bodies of requests, received within the limits of size, time and memory.

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, header},
};
use http_body_util::BodyExt;
use service::Problem;
use tokio::time::timeout;

use crate::{
    App, auth,
    budget::{Full, Share},
    refusal,
};

/// A body of at most so many bytes counts for nothing: it fits into what each connection has for reading.
const UNCOUNTED_BYTES: usize = 8 * 1024;

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
    /// With the share of its client in the memory for bodies, which is nothing yet.
    Lines(Body, Share),
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
                let memory = app.shared.body_memory.take(auth::client(request.extensions()), 0);
                Ok(Self::Lines(request.into_body(), memory.map_err(|full| refusal::too_much_memory(&full))?))
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
    let (parts, body) = request.into_parts();
    let size = body.size_hint();
    if size.lower() > limit as u64 {
        return Err(refusal::body_too_large(limit));
    }
    let memory = || app.shared.body_memory.take(auth::client(&parts.extensions), 0);
    let declared = size.exact().and_then(|bytes| usize::try_from(bytes).ok());
    let mut received = Received { bytes: Vec::new(), share: None };
    received.count(declared.unwrap_or(0), memory)?;
    match timeout(time_limit.to_std(), received.collect(body, declared, limit, memory)).await {
        Ok(received) => received,
        Err(_) => Err(refusal::body_too_slow(time_limit)),
    }
}

/// How much so many bytes that are held count towards the budget of memory.
pub(crate) fn counted(bytes: usize) -> usize {
    if bytes > UNCOUNTED_BYTES { bytes } else { 0 }
}

/// The part of a body that has come. It is copied out of the buffers that it comes in: each of these may be much larger than the piece
/// of the body in it.
struct Received {
    bytes: Vec<u8>,
    /// None as long as nothing counts.
    share: Option<Share>,
}

impl Received {
    /// Takes memory for so many bytes.
    fn count(&mut self, bytes: usize, memory: impl Fn() -> Result<Share, Full>) -> Result<(), Problem> {
        if counted(bytes) == 0 {
            return Ok(());
        }
        let taken = memory().and_then(|share| self.share.get_or_insert(share).resize(bytes));
        taken.map_err(|full| refusal::too_much_memory(&full))
    }

    /// All of a body, of which the memory is given back when the last part of it is dropped.
    async fn collect(
        mut self,
        mut body: Body,
        declared: Option<usize>,
        limit: usize,
        memory: impl Fn() -> Result<Share, Full>,
    ) -> Result<Bytes, Problem> {
        while !body.is_end_stream() {
            let frame = match body.frame().await {
                None => break,
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Err(refusal::body_not_received()),
            };
            let Ok(data) = frame.into_data() else { continue };
            // As most come: in one piece with the headers.
            if declared == Some(data.len()) && self.share.is_none() {
                return Ok(data);
            }
            let length = self.bytes.len() + data.len();
            if length > limit {
                return Err(refusal::body_too_large(limit));
            }
            if length > self.bytes.capacity() {
                let capacity = declared.unwrap_or_else(|| length.max(UNCOUNTED_BYTES).next_power_of_two().min(limit));
                self.count(capacity, &memory)?;
                self.bytes.reserve_exact(capacity - self.bytes.len());
            }
            self.bytes.extend_from_slice(&data);
        }
        Ok(if self.share.is_some() { Bytes::from_owner(self) } else { self.bytes.into() })
    }
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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
