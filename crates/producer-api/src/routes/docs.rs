//! The description of the interface, as JSON and as a page.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::Path,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::Value;
use utoipa_swagger_ui::Config;

/// The page shows what `/openapi.json` says, by Swagger UI, which the binary carries.
const PAGE: &str = include_str!("docs.html");

/// Starts Swagger UI. In a file of its own, because a script within the page would need a hole in the policy.
const START: &str = include_str!("docs.js");

/// Nothing but what this server serves, and the pictures within the style sheet.
const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
);

/// A version of Drover has one of each file.
const KEEP_AN_HOUR: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));

/// `/openapi.json`, `/docs`, and the files of the page.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(description: &Value) -> Router<S> {
    let description = Bytes::from(description.to_string());
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Router::new()
        .route("/openapi.json", get(async move || (json, description)))
        .route("/docs", get(async || answer("text/html; charset=utf-8", PAGE)))
        .route("/docs/{file}", get(file))
}

async fn file(Path(name): Path<String>) -> Response {
    if name == "start.js" {
        return answer("text/javascript; charset=utf-8", START);
    }
    // Its own page asks other hosts for what it shows first.
    let is_part = matches!(name.as_str(), "swagger-ui.css" | "swagger-ui-bundle.js" | "favicon-32x32.png");
    match utoipa_swagger_ui::serve(&name, Arc::new(Config::default())) {
        Ok(Some(file)) if is_part => {
            let bytes = file.bytes.into_owned();
            ([KEEP_AN_HOUR], answer(&file.content_type, bytes)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn answer(content_type: &str, body: impl IntoResponse) -> Response {
    let mut answer = body.into_response();
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    answer.headers_mut().extend([POLICY]);
    answer
}
