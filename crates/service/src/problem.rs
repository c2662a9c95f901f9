//! Refusals as RFC 9457 has them (`application/problem+json`), and the layer that writes each one down.

use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{self, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::Code;

/// The header that carries a request's id both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A refusal as RFC 9457 has it. Every refusal is one: the router's and the extractors' too.
///
/// As a response it is empty until [`render_problem`] writes it down, because only there the request's id is known.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    /// What was wrong and what to do about it, for people.
    pub detail: String,
    request_id: Option<Box<str>>,
    errors: Vec<FieldError>,
    members: Vec<(&'static str, Value)>,
    retry_after_secs: Option<u32>,
}

/// What is wrong with one field of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

/// A new id for a request that brings none.
pub fn new_request_id() -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = rand::random::<u64>().to_ne_bytes();
    // Without the formatter, for each request has one.
    let mut id = String::with_capacity(2 * bytes.len());
    for digit in bytes.into_iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        id.push(char::from(DIGITS[usize::from(digit)]));
    }
    id
}

impl Problem {
    /// What a problem is sent as.
    const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

    /// A refusal with a code that programs match.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (errors, members) = (Vec::new(), Vec::new());
        Self { code, detail: detail.into(), request_id: None, errors, members, retry_after_secs: None }
    }

    /// Names the fields.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds an extension member, for what programs want to know beyond the code.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// Says when another try makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, secs: u32) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What is wrong with which field.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// For refusals that a library made, of which only the status is known.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let code = Code::of_status(status);
        let detail = match code {
            Code::NotFound => "there is nothing at this path; the endpoints are under /v1/queues",
            Code::MethodNotAllowed => "this path does not know this method; the Allow header lists those it knows",
            Code::RequestTimeout => "the request was not complete in time; send it again",
            Code::BodyTooLarge => "the body is too large; send less at once",
            Code::Internal => "this is a fault of the server; its log has the request's id",
            _ => "the request can't be understood",
        };
        Self::new(code, detail)
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("type", &format_args!("urn:drover:problem:{}", self.code.as_str()))?;
        members.serialize_entry("title", self.code.title())?;
        members.serialize_entry("status", &self.code.status().as_u16())?;
        members.serialize_entry("detail", &self.detail)?;
        members.serialize_entry("code", &self.code)?;
        if let Some(id) = &self.request_id {
            members.serialize_entry("request_id", id)?;
        }
        if !self.errors.is_empty() {
            members.serialize_entry("errors", &self.errors)?;
        }
        for (name, value) in &self.members {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes every refusal down as a problem, with the id of its request. The outermost layer but for the request's id.
pub async fn render_problems(request: Request, next: Next) -> Response {
    render_problem(next.run(request).await)
}

/// Writes a refusal down as a problem, with the id of its request, which stands in the answer's headers already. Any
/// other answer stays as it is.
pub fn render_problem<B>(response: http::Response<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut response = response.map(Body::new);
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| Problem::of_status(status));
    let headers = response.headers_mut();
    problem.request_id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(Box::from);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, Problem::CONTENT_TYPE);
    if let Some(secs) = problem.retry_after_secs {
        headers.insert(header::RETRY_AFTER, secs.into());
    }
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    *response.body_mut() = Body::from(body);
    response
}
