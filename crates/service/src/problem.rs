//! Error responses in the form of RFC 9457 (`application/problem+json`), and the layer that writes their bodies.

use axum::{
    BoxError,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{self, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::code::Code;

/// The header with the id of a request, in requests and responses.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An error response as RFC 9457 defines it. All error responses are problems, including the error responses of the router and
/// the extractors.
///
/// A problem is converted to a response with an empty body. [`render_problem`] writes the body, because only `render_problem`
/// knows the request's id.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    /// The reason of the error, and advice on what to do, for people.
    pub detail: String,
    request_id: Option<Box<str>>,
    errors: Vec<FieldError>,
    scope: Option<&'static str>,
    lines: Option<Box<LinesProgress>>,
    retry_after_secs: Option<u32>,
}

/// The progress of an NDJSON body until the request was refused.
#[derive(Debug, Clone, Default)]
struct LinesProgress {
    stored_through: Option<u64>,
    in_doubt: Option<LinesInDoubt>,
    summary: Map<String, Value>,
}

/// A range of NDJSON lines of which each may be stored or not.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct LinesInDoubt {
    /// The number of the first line for which it is unknown whether the line was stored.
    pub from: u64,
    /// The number of the last line for which it is unknown whether the line was stored.
    pub to: u64,
}

/// The body of an error response, as RFC 9457 defines it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
struct ProblemBody<'a> {
    #[schema(pattern = "^urn:drover:problem:[a-z_]+$")]
    r#type: String,
    title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The reason of the error, and advice on what to do, for people.
    #[schema(min_length = 1)]
    detail: &'a str,
    /// A word that a program can match.
    #[schema(value_type = String)]
    code: Code,
    /// The id of the request, as in the header x-request-id and in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required, nullable = false)]
    request_id: Option<&'a str>,
    /// The first mistake in a field that was found.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(max_items = 1, value_type = Vec<FieldError>)]
    errors: &'a [FieldError],
    /// With `forbidden`: the scope that the key lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scope: Option<&'static str>,
    /// With NDJSON: the number of the line up to which every line was stored or refused. Send the lines after `stored_through`
    /// again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    stored_through: Option<u64>,
    /// With NDJSON, if Redis became unavailable: the range of the lines of which each may be stored or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    in_doubt: Option<LinesInDoubt>,
    #[serde(flatten)]
    #[schema(ignore)]
    summary: Option<&'a Map<String, Value>>,
}

/// A mistake in one field of the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The path of the field, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The mistake in the field, and the values that are allowed.
    pub detail: String,
}

impl FieldError {
    /// Returns the same error with a pointer that is prefixed with `pointer`, the pointer of the parent.
    #[must_use]
    pub fn with_parent_pointer(mut self, pointer: &str) -> Self {
        self.pointer.insert_str(0, pointer);
        self
    }
}

/// Creates an id for a request that has no id.
pub fn new_request_id() -> String {
    const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = rand::random::<u64>().to_ne_bytes();
    // The digits are not written with `format!`, because `format!` is slower and each request needs an id.
    let mut id = String::with_capacity(2 * bytes.len());
    for digit in bytes.into_iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        id.push(char::from(HEX_DIGITS[usize::from(digit)]));
    }
    id
}

impl Problem {
    /// The value of the header `content-type` of an error response.
    const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

    /// Creates an error response with a code that programs match.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { code, detail, request_id: None, errors: Vec::new(), scope: None, lines: None, retry_after_secs: None }
    }

    /// Adds the fields of the input that have mistakes.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds the scope that a key lacks.
    #[must_use]
    pub fn with_scope(mut self, scope: &'static str) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Adds the lines of an NDJSON body that may be stored or not.
    #[must_use]
    pub fn with_lines_in_doubt(mut self, lines: LinesInDoubt) -> Self {
        self.lines.get_or_insert_default().in_doubt = Some(lines);
        self
    }

    /// Adds the number of the last line up to which every line is stored or refused, and the summary of all lines.
    #[must_use]
    pub fn with_progress_of_lines(mut self, stored_through: u64, summary: &impl Serialize) -> Self {
        let lines = self.lines.get_or_insert_default();
        lines.stored_through = Some(stored_through);
        if let Ok(Value::Object(summary)) = serde_json::to_value(summary) {
            lines.summary = summary;
        }
        self
    }

    /// Adds the header `Retry-After`, in seconds.
    #[must_use]
    pub fn with_retry_after(mut self, secs: u32) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// Returns the error code of the problem.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the fields of the input that have mistakes.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// Returns the problem for an error response of a library, of which only the status is known.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        let code = Code::from_status(status);
        let detail = match code {
            Code::NotFound => "there is nothing at this path; the endpoints are under /v1/queues",
            Code::MethodNotAllowed => {
                "this path does not support this method; the Allow header lists the methods that it supports"
            }
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
        let lines = self.lines.as_deref();
        let problem_body = ProblemBody {
            r#type: format!("urn:drover:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id: self.request_id.as_deref(),
            errors: &self.errors,
            scope: self.scope,
            stored_through: lines.and_then(|lines| lines.stored_through),
            in_doubt: lines.and_then(|lines| lines.in_doubt),
            summary: lines.map(|lines| &lines.summary),
        };
        problem_body.serialize(serializer)
    }
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        ProblemBody::schema()
    }
}

impl ToSchema for Problem {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((FieldError::name().into_owned(), FieldError::schema()));
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Middleware that applies [`render_problem`] to every response.
pub async fn render_problems(request: Request, next: Next) -> Response {
    render_problem(next.run(request).await)
}

/// Writes the body of an error response as a problem, with the request's id from the response's headers. `render_problem` does
/// not change responses that are no errors.
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
    let mut problem = response.extensions_mut().remove::<Problem>().unwrap_or_else(|| Problem::from_status(status));
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
